//! Tells webhooks about requests for approval: signed, in order, and again when it fails.
//!
//! A webhook only tells: nothing that comes back from one grants anything. What it is sent has
//! passed the same concealment as recordings.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode, header};
use ring::hmac;
use runtime::Published;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::issuers::{FetchError, client};
use crate::approvals::{News, NewsKind, Shown, ShownPerson, marked};
use crate::archive::{Announce, Head};
use crate::config::{Snapshot, WebhookForm, WebhookSettings};
use crate::telemetry::chain;

/// Messages that wait for one webhook; when it is this far behind, the latest are left out.
const QUEUE_MAX: usize = 256;

/// For one attempt, from connecting to the status.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(10);

/// After the first failure; doubled with each that follows.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Attempts for one message: with the pauses between them some two minutes. Then the next one has
/// its turn.
const ATTEMPTS_MAX: u32 = 8;

/// A head of the archive was signed.
const HEAD_EVENT: &str = "archive.head";

/// Longest text of a command in a message, in characters. All of it is in the console.
const TEXT_CHARS_MAX: usize = 1000;

/// Seconds since 1970, as they are signed.
const TIMESTAMP: &str = "x-sallyport-timestamp";

/// `v1=` and the HMAC-SHA256 of `v1:`, the timestamp, `:` and the body, in hexadecimal.
const SIGNATURE: &str = "x-sallyport-signature";

/// The same for each attempt to deliver one message.
const DELIVERY: &str = "x-sallyport-delivery";

/// One message on its way to one webhook.
struct Message {
    delivery: String,
    body: String,
}

/// Heads of the archive on their way to webhooks.
pub struct Heads(mpsc::Receiver<Head>);

/// The way of heads from the archivist to the webhooks. It waits for nobody: one that finds no room
/// is in the archive and in the log all the same.
#[must_use]
pub fn heads() -> (Announce, Heads) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let announce = move |head: &Head| {
        if sender.try_send(head.clone()).is_err() {
            tracing::debug!(number = head.number, "webhooks were not told of a head");
        }
    };
    (Box::new(announce), Heads(receiver))
}

/// The next head; never one where there are none.
async fn next_head(heads: &mut Option<mpsc::Receiver<Head>>) -> Option<Head> {
    match heads {
        Some(heads) => heads.recv().await,
        None => None,
    }
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("no HTTPS client can be made")]
    Client(#[source] FetchError),
    #[error("its address is none")]
    Address,
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("it answered {status}")]
    Status { status: StatusCode },
}

impl SendError {
    /// The same message may be taken later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Client(_) => true,
            Self::Status { status } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Address => false,
        }
    }
}

/// A webhook of the configuration in force, and the way to the task that serves it.
struct Served {
    settings: Arc<WebhookSettings>,
    queue: mpsc::Sender<Message>,
}

/// Tells the webhooks of the configuration in force about all that happens, until the news end.
pub(super) async fn attend(
    mut news: broadcast::Receiver<News>,
    heads: Option<Heads>,
    snapshot: Published<Snapshot>,
) {
    let mut served: Vec<Served> = Vec::new();
    let mut heads = heads.map(|Heads(heads)| heads);
    loop {
        let news = tokio::select! {
            news = news.recv() => news,
            Some(head) = next_head(&mut heads) => {
                tell_head(&mut served, &snapshot, &head);
                continue;
            }
        };
        let news = match news {
            Ok(news) => news,
            Err(RecvError::Lagged(count)) => {
                tracing::warn!(count, "webhooks were not told of so many events");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if news.kind == NewsKind::Changed {
            continue;
        }
        let configured = &snapshot.load().webhooks;
        follow(&mut served, configured);
        for webhook in &served {
            let message = Message::of(&news, webhook.settings.form);
            if webhook.queue.try_send(message).is_err() {
                let host = webhook.settings.host();
                tracing::warn!(%host, "a webhook is too far behind to be told more");
            }
        }
    }
}

/// Tells a head of the archive to the webhooks that are told in JSON: it is for a machine to keep.
fn tell_head(served: &mut Vec<Served>, snapshot: &Published<Snapshot>, head: &Head) {
    follow(served, &snapshot.load().webhooks);
    let for_machines = |webhook: &&Served| webhook.settings.form == WebhookForm::Json;
    for webhook in served.iter().filter(for_machines) {
        let message = Message {
            delivery: format!("head-{}", head.number),
            body: json!({ "event": HEAD_EVENT, "head": head }).to_string(),
        };
        if webhook.queue.try_send(message).is_err() {
            let host = webhook.settings.host();
            tracing::warn!(%host, "a webhook is too far behind to be told more");
        }
    }
}

/// Serves those that are configured: new ones get a task, one that is gone ends with its queue.
fn follow(served: &mut Vec<Served>, configured: &[Arc<WebhookSettings>]) {
    served.retain(|one| {
        configured
            .iter()
            .any(|settings| settings.same_as(&one.settings))
    });
    for settings in configured {
        if served.iter().any(|one| settings.same_as(&one.settings)) {
            continue;
        }
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let settings = Arc::clone(settings);
        tokio::spawn(serve(Arc::clone(&settings), messages));
        served.push(Served { settings, queue });
    }
}

async fn serve(settings: Arc<WebhookSettings>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let mut pause = RETRY_FIRST;
        for attempt in 1..=ATTEMPTS_MAX {
            let Err(error) = send(&settings, &message).await else {
                break;
            };
            let host = settings.host();
            let error_chain = chain(&error);
            if !error.may_pass() || attempt == ATTEMPTS_MAX {
                tracing::error!(%host, attempt, error = error_chain, "a webhook was not told");
                break;
            }
            tracing::warn!(%host, attempt, error = error_chain, "a webhook is told again later");
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }
}

async fn send(settings: &WebhookSettings, message: &Message) -> Result<(), SendError> {
    let client = https().await?;
    let url = settings.url().ok_or(SendError::Address)?;
    let timestamp = runtime::unix_time().as_secs().to_string();
    let signature = signature(settings.secret.expose(), &timestamp, &message.body);
    let request = client
        .post(url)
        .timeout(ATTEMPT_DEADLINE)
        .header(header::CONTENT_TYPE, "application/json")
        .header(TIMESTAMP, timestamp)
        .header(SIGNATURE, signature)
        .header(DELIVERY, &message.delivery)
        .body(message.body.clone());
    // The address may be a secret: no error holds it.
    let sent = request.send().await;
    let response = sent.map_err(|error| SendError::Unreachable(error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(SendError::Status { status })
    }
}

async fn https() -> Result<Client, SendError> {
    // Reads the system's certificates.
    let made = tokio::task::spawn_blocking(|| client(&[])).await;
    made.unwrap_or(Err(FetchError::GivenUp))
        .map_err(SendError::Client)
}

fn signature(secret: &[u8], timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("v1:{timestamp}:{body}").as_bytes());
    let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("v1={}", digits.collect::<String>())
}

impl Message {
    fn of(news: &News, form: WebhookForm) -> Self {
        let News { kind, shown, link } = news;
        let text = text(*kind, shown, link.as_deref());
        let body = match form {
            WebhookForm::Slack => json!({ "text": text }),
            WebhookForm::Json => json!({
                "event": kind.name(),
                "link": link,
                "request": &**shown,
                "text": text,
            }),
        };
        Self {
            delivery: format!("{}-{}", shown.id, kind.name()),
            body: body.to_string(),
        }
    }
}

/// The message for people, in Slack's mrkdwn: everything that is not ours stands in code, where
/// nothing is interpreted but `&`, `<`, `>` and the backtick.
fn text(kind: NewsKind, shown: &Shown, link: Option<&str>) -> String {
    let who = code(&shown.requester.name);
    let target = code(&shown.target);
    if kind == NewsKind::Over {
        let by = |person: &ShownPerson| code(&person.name);
        let people: Vec<String> = match &shown.denied_by {
            Some(person) => vec![by(person)],
            None => shown.approvals.iter().map(|vote| by(&vote.by)).collect(),
        };
        let people = if people.is_empty() {
            String::new()
        } else {
            format!(" by {}", people.join(", "))
        };
        let state = match shown.state.as_str() {
            "used" => "approved",
            state => state,
        };
        let reason = shown
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(": {}", code(reason)));
        let id = &shown.id;
        return format!("Request {id} of {who} for {target} is over: {state}{people}{reason}");
    }
    let mut text = format!("*Approval wanted*: {who} wants to run this at {target}:\n");
    for command in &shown.commands {
        text.push_str(&format!("```\n{}\n```\n", block(command.text.readable())));
        let effects = command.effects.iter();
        let effects: Vec<String> = effects
            .map(|effect| format!("{} {}", effect.class, effect.object))
            .collect();
        if !effects.is_empty() {
            text.push_str(&format!("It does: {}\n", code(&effects.join(", "))));
        }
        if let Some(rows) = command.estimated_rows {
            text.push_str(&format!("About {rows} rows, by the planner's estimate\n"));
        }
    }
    for rule in &shown.rules {
        let approvers = rule.approvers.join(" or ");
        let rule_name = code(&rule.name);
        let needed = rule.needed;
        text.push_str(&format!(
            "Held by {rule_name}, which takes {needed} of {}\n",
            code(&approvers)
        ));
    }
    if shown.is_deceptive() {
        text.push_str("*Careful*: what is in braces does not read as it is.\n");
    }
    let id = &shown.id;
    match link {
        Some(link) => text.push_str(&format!("<{}|Decide about request {id}>", escaped(link))),
        None => text.push_str(&format!("`sallyport approvals show {id}`")),
    }
    text
}

/// One line in a code span.
fn code(text: &str) -> String {
    let line = marked(text).replace('\n', "{U+000A}");
    format!("`{}`", escaped(&shortened(&line)))
}

/// Lines of a code block.
fn block(text: &str) -> String {
    escaped(&shortened(text))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!(
            "{} ... (the rest is left out)",
            text.get(..end).unwrap_or("")
        ),
        None => text.to_owned(),
    }
}

/// Spec: Slack, "Formatting text for app surfaces", "Escaping text"; a backtick would end the code.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('`', "{U+0060}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_openssl_makes() {
        // printf 'v1:1700000000:{"text":"x"}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signature(b"secret", "1700000000", "{\"text\":\"x\"}"),
            "v1=03f326cbfe6e9ff975c83181fdbedd9491ecb727e0ffa787ab26f80e7cacbd76"
        );
    }

    #[test]
    fn nothing_that_an_agent_writes_is_interpreted() {
        assert_eq!(
            code("<!here> & `x`"),
            "`&lt;!here&gt; &amp; {U+0060}x{U+0060}`"
        );
        assert_eq!(code("a\nb\u{202e}c"), "`a{U+000A}b{U+202E}c`");
        assert_eq!(
            block("select '```'; <@U123>"),
            "select '{U+0060}{U+0060}{U+0060}'; &lt;@U123&gt;"
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        let at_limit = "é".repeat(TEXT_CHARS_MAX);
        assert_eq!(block(&at_limit), at_limit);
        let over = format!("{at_limit}x");
        assert_eq!(
            block(&over),
            format!("{at_limit} ... (the rest is left out)")
        );
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        let of = |status| SendError::Status { status };
        for status in [
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ] {
            assert!(of(status).may_pass(), "{status}");
        }
        for status in [
            StatusCode::BAD_REQUEST,
            StatusCode::NOT_FOUND,
            StatusCode::FOUND,
        ] {
            assert!(!of(status).may_pass(), "{status}");
        }
    }
}
