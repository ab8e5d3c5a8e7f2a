//! What was decoded, encoded again, gives the bytes that came.

use codecs::Limits;
use codecs::postgres::backend::{self, Authentication};
use codecs::postgres::frontend::{self, Format, Formats};
use codecs::postgres::{
    Backend, BackendDecoder, BackendPiece, Frontend, FrontendDecoder, FrontendPiece,
};
use proptest::prelude::*;

use crate::streams;

fn formats(formats: &Formats<'_>) -> Vec<Format> {
    formats.iter().collect()
}

fn encode_frontend(message: &Frontend<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Frontend::Query(query) => frontend::encode_query(&mut out, query.text),
        Frontend::Parse(parse) => {
            let types: Vec<u32> = parse.parameter_types.iter().collect();
            frontend::encode_parse(&mut out, parse.statement, parse.text, &types)
        }
        Frontend::Bind(bind) => {
            let values: Vec<_> = bind.values.iter().collect();
            frontend::encode_bind(
                &mut out,
                bind.portal,
                bind.statement,
                &formats(&bind.formats),
                &values,
                &formats(&bind.result_formats),
            )
        }
        Frontend::Describe(it) => frontend::encode_describe(&mut out, it.target, it.name),
        Frontend::Execute(it) => frontend::encode_execute(&mut out, it.portal, it.row_limit),
        Frontend::Close(it) => frontend::encode_close(&mut out, it.target, it.name),
        Frontend::Sync => frontend::encode_sync(&mut out),
        Frontend::Flush => frontend::encode_flush(&mut out),
        Frontend::FunctionCall(call) => {
            let arguments: Vec<_> = call.arguments.iter().collect();
            frontend::encode_function_call(
                &mut out,
                call.function,
                &formats(&call.formats),
                &arguments,
                call.result_format,
            )
        }
        Frontend::CopyData(data) => frontend::encode_copy_data(&mut out, data),
        Frontend::CopyDone => frontend::encode_copy_done(&mut out),
        Frontend::CopyFail(it) => frontend::encode_copy_fail(&mut out, it.reason),
        Frontend::Terminate => frontend::encode_terminate(&mut out),
        Frontend::Password(it) => frontend::encode_sasl_response(&mut out, it.sasl_response()),
    }
    .unwrap();
    out
}

/// `None` for messages that we never write from their parts: errors and notices of a server,
/// start-up answers other than our own.
fn encode_backend(message: &Backend<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match message {
        Backend::Authentication(Authentication::Ok) => backend::encode_authentication_ok(&mut out),
        Backend::BackendKeyData(key) => {
            backend::encode_backend_key_data(&mut out, key.process_id, key.secret)
        }
        Backend::ParameterStatus(it) => {
            backend::encode_parameter_status(&mut out, it.name, it.value)
        }
        Backend::ReadyForQuery(status) => backend::encode_ready_for_query(&mut out, *status),
        Backend::RowDescription(row) => {
            let columns: Vec<_> = row.iter().collect();
            backend::encode_row_description(&mut out, &columns)
        }
        Backend::DataRow(row) => {
            let values: Vec<_> = row.values().unwrap().iter().collect();
            backend::encode_data_row(&mut out, &values)
        }
        Backend::CommandComplete(it) => backend::encode_command_complete(&mut out, it.tag),
        Backend::EmptyQueryResponse => backend::encode_empty_query_response(&mut out),
        Backend::ParseComplete => backend::encode_parse_complete(&mut out),
        Backend::BindComplete => backend::encode_bind_complete(&mut out),
        Backend::CloseComplete => backend::encode_close_complete(&mut out),
        Backend::NoData => backend::encode_no_data(&mut out),
        Backend::PortalSuspended => backend::encode_portal_suspended(&mut out),
        Backend::CopyDone => backend::encode_copy_done(&mut out),
        Backend::CopyData(data) => backend::encode_copy_data(&mut out, data),
        Backend::NotificationResponse(it) => {
            backend::encode_notification_response(&mut out, it.process_id, it.channel, it.payload)
        }
        Backend::Authentication(_)
        | Backend::CopyBothResponse(_)
        | Backend::CopyInResponse(_)
        | Backend::CopyOutResponse(_)
        | Backend::ErrorResponse(_)
        | Backend::FunctionCallResponse(_)
        | Backend::NegotiateProtocolVersion(_)
        | Backend::NoticeResponse(_)
        | Backend::ParameterDescription(_) => return None,
    }
    .unwrap();
    Some(out)
}

#[test]
fn what_real_clients_sent_is_encoded_as_they_did() {
    for stream in streams::all() {
        let mut decoder = FrontendDecoder::new(Limits::default());
        decoder.authenticated();
        let mut rest = stream.client.as_slice();
        while let Some(piece) = decoder.decode(rest).unwrap() {
            if let FrontendPiece::Message(decoded) = &piece {
                assert_eq!(
                    encode_frontend(&decoded.message),
                    decoded.wire,
                    "{}",
                    stream.name
                );
            }
            rest = &rest[piece.wire().len()..];
        }
        assert!(rest.is_empty(), "{}", stream.name);
    }
}

#[test]
fn what_real_servers_sent_is_encoded_as_they_did() {
    let mut encoded = 0;
    for stream in streams::all() {
        let mut decoder = BackendDecoder::new(Limits::default());
        let mut rest = stream.server.as_slice();
        while let Some(piece) = decoder.decode(rest).unwrap() {
            if let BackendPiece::Message(decoded) = &piece
                && let Some(bytes) = encode_backend(&decoded.message)
            {
                encoded += 1;
                assert_eq!(bytes, decoded.wire, "{}", stream.name);
            }
            rest = &rest[piece.wire().len()..];
        }
        assert!(rest.is_empty(), "{}", stream.name);
    }
    assert!(encoded > 1000, "{encoded} messages");
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, 0..20)
}

proptest! {
    #[test]
    fn a_bind_of_any_values_survives(
        portal in name(),
        statement in name(),
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        binary in any::<bool>(),
    ) {
        let format = if binary { Format::Binary } else { Format::Text };
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let mut wire = Vec::new();
        frontend::encode_bind(&mut wire, &portal, &statement, &[format], &values, &[]).unwrap();
        let mut decoder = FrontendDecoder::new(Limits::default());
        decoder.authenticated();
        let Some(FrontendPiece::Message(decoded)) = decoder.decode(&wire).unwrap() else {
            panic!("not whole");
        };
        let Frontend::Bind(bind) = decoded.message else {
            panic!("not a Bind");
        };
        prop_assert_eq!(bind.portal, portal);
        prop_assert_eq!(bind.statement, statement);
        prop_assert_eq!(bind.values.iter().collect::<Vec<_>>(), values);
        prop_assert_eq!(encode_frontend(&decoded.message), wire);
    }
}
