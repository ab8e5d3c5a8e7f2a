//! The pairing of replies and requests: no order of messages makes it panic or forget its bounds.
#![no_main]

use codecs::postgres::backend::BackendEvent;
use codecs::postgres::frontend::Target;
use codecs::postgres::{BackendTag, Origin, Pipeline, Reply, Request, TransactionStatus};

const REQUESTS: [Request; 13] = [
    Request::Query,
    Request::Parse,
    Request::Bind,
    Request::Describe(Target::Statement),
    Request::Describe(Target::Portal),
    Request::Execute,
    Request::Close,
    Request::Sync,
    Request::Flush,
    Request::FunctionCall,
    Request::CopyData,
    Request::CopyDone,
    Request::CopyFail,
];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut pipeline = Pipeline::new(TransactionStatus::Idle);
    let mut sent = 0_u32;
    for byte in input {
        let choice = usize::from(byte >> 1);
        if byte & 1 == 0 {
            let request = REQUESTS[choice % REQUESTS.len()];
            let origin = [Origin::Client, Origin::Hidden, Origin::Refused][choice / REQUESTS.len() % 3];
            if pipeline.handle_frontend(request, origin, sent).is_err() {
                return;
            }
            sent += 1;
        } else {
            let event = match choice {
                0 => BackendEvent::ReadyForQuery(TransactionStatus::Idle),
                1 => BackendEvent::FatalErrorResponse,
                other => BackendEvent::Tagged(BackendTag::ALL[other % BackendTag::ALL.len()]),
            };
            match pipeline.handle_backend(event) {
                Ok(Reply::Answer(answer)) => assert!(answer.tag < sent),
                Ok(Reply::Asynchronous | Reply::Fatal(_)) => {}
                Err(_) => return,
            }
        }
        assert!(pipeline.len() <= usize::try_from(sent).unwrap());
        let discarded = pipeline.drain_discarded().count();
        assert!(discarded <= usize::try_from(sent).unwrap());
    }
});
