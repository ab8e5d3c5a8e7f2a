//! One connection, from accept to close.

use std::rc::Rc;
use std::time::Duration;

use codecs::postgres::backend::{Report, SqlState};
use codecs::postgres::{FrontendDecoder, FrontendPiece};
use runtime::{Stream, now, yield_if_needed};

use super::Shard;
use super::greet::greet;
use super::outgoing::{Gone, Outgoing};
use super::session::{Next, Session};

/// How long a session may say nothing: crowds of idle sessions are what is measured, for a day.
const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long the end of a connection is waited for.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

const PROTOCOL_VIOLATION: SqlState = SqlState::new(b"08P01");

pub(super) async fn run(shard: Rc<Shard>, stream: Stream) {
    let Ok(Some(greeted)) = greet(&shard, stream).await else {
        return;
    };
    let (mut outgoing, mut decoder, unread) = (greeted.outgoing, greeted.decoder, greeted.unread);
    let mut session = Session::new(
        shard,
        greeted.key,
        greeted.settings,
        greeted.user,
        greeted.database,
    );
    if serve(&mut session, &mut decoder, &mut outgoing, unread)
        .await
        .is_ok()
    {
        outgoing.close(now() + CLOSE_DEADLINE).await;
    }
}

/// Answers until the client leaves.
async fn serve(
    session: &mut Session,
    decoder: &mut FrontendDecoder,
    outgoing: &mut Outgoing,
    mut unread: Vec<u8>,
) -> Result<(), Gone> {
    loop {
        let (taken, next) = answer(session, decoder, outgoing, &unread).await?;
        if next == Next::Leave {
            return Ok(());
        }
        unread.drain(..taken);
        outgoing.flush().await?;
        // As long as messages arrive whole, nothing is copied.
        while unread.is_empty() {
            // An idle connection holds no buffer.
            unread = Vec::new();
            let Some(chunk) = outgoing.recv(now() + IDLE_MAX).await? else {
                return Ok(());
            };
            let (taken, next) = answer(session, decoder, outgoing, &chunk).await?;
            if next == Next::Leave {
                return Ok(());
            }
            unread.extend_from_slice(chunk.get(taken..).unwrap_or_default());
            outgoing.flush().await?;
            yield_if_needed().await;
        }
        match outgoing.recv(now() + IDLE_MAX).await? {
            Some(chunk) => unread.extend_from_slice(&chunk),
            None => return Ok(()),
        }
    }
}

/// Answers the whole messages of `input`; says how many bytes they were.
async fn answer(
    session: &mut Session,
    decoder: &mut FrontendDecoder,
    outgoing: &mut Outgoing,
    input: &[u8],
) -> Result<(usize, Next), Gone> {
    let mut taken = 0_usize;
    loop {
        let rest = input.get(taken..).unwrap_or_default();
        let piece = match decoder.decode(rest) {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok((taken, Next::Continue)),
            Err(_) => {
                Report::fatal(PROTOCOL_VIOLATION, "this is not PostgreSQL's protocol")
                    .encode_error(&mut outgoing.bytes)?;
                return Ok((taken, Next::Leave));
            }
        };
        taken = taken.saturating_add(piece.wire().len());
        match piece {
            FrontendPiece::Message(decoded) => {
                if session.handle(&decoded.message, outgoing).await? == Next::Leave {
                    return Ok((taken, Next::Leave));
                }
            }
            FrontendPiece::Fragment(fragment) => session.handle_data(fragment.payload),
            // Nothing is announced unless it is asked for.
            FrontendPiece::Announced(_) => return Err(Gone),
        }
    }
}
