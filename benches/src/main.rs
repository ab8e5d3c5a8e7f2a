//! Runs one operation of the data path so many times; `benches/instructions.py` counts the
//! instructions of it under valgrind.
//!
//! It measures no time: a machine that is shared drifts, a count does not.

#![forbid(unsafe_code)]

mod dialogue;
mod hostile;

use std::process::ExitCode;

use appliance::bench::{Classified, Recorded, Session};
use codecs::Limits;
use codecs::postgres::{BackendDecoder, FrontendDecoder, Origin, Pipeline, TransactionStatus};
use policy::sql::postgres::{ProfileLimits, profile, write_shape};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The text of `pgbench -S`.
const SELECT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let count: Option<u64> = arguments.next().and_then(|count| count.parse().ok());
    if name == "hostile" {
        return profile_hostile(arguments.next().as_deref(), count);
    }
    let Some((case, count)) = CASES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, case)| case)
        .zip(count)
    else {
        for (name, _) in CASES {
            eprintln!("{name}");
        }
        return ExitCode::from(2);
    };
    match case(count) {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("{name} did not do what it has to");
            ExitCode::FAILURE
        }
    }
}

/// Reads one of [`hostile::TEXTS`], of so many bytes; without one, says what there is.
fn profile_hostile(name: Option<&str>, bytes: Option<u64>) -> ExitCode {
    let mut known = hostile::TEXTS.iter();
    let found = known.find(|(text, _)| Some(*text) == name);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let Some(((_, build), bytes)) = found.zip(bytes) else {
        for (name, _) in hostile::TEXTS {
            eprintln!("{name}");
        }
        return ExitCode::from(2);
    };
    let text = build(bytes);
    let batch = profile(&text, &ProfileLimits::default());
    let is_read = !batch.classes().contains(policy::class::Class::Unknown);
    eprintln!("read={is_read}");
    ExitCode::SUCCESS
}

type Case = fn(u64) -> Option<()>;

/// Each does its operation as often as it is told; `None` when something of it failed.
const CASES: &[(&str, Case)] = &[
    ("decode", decode),
    ("shape", shape),
    ("profile", profile_new),
    ("judge-known", judge_known),
    ("judge-other-literal", judge_other_literal),
    ("judge-1000-patterns", judge_patterns),
    ("record", record),
    ("relay-prepared", relay_prepared),
    ("relay-simple", relay_simple),
    ("relay-simple-other-literal", relay_simple_other_literal),
    ("relay-1000-rows", relay_rows),
];

/// Judges a statement anew by a thousand rules that each name tables by a wildcard.
fn judge_patterns(count: u64) -> Option<()> {
    let rule = |number: usize| {
        format!(
            "[[rule]]\nname = \"r{number}\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
             allow = {{ statements = [\"select\"], tables = [\"*_tenant{number:04}_*\"] }}\n"
        )
    };
    let source = policy::Source {
        file: "rules.toml".to_owned(),
        text: (0..1000).map(rule).collect(),
    };
    let compiled = policy::Policy::compile(&[source], &policy::Known::default());
    let policy = compiled.ok()?.policy;
    let principal = policy::Principal {
        issuer: String::new(),
        subject: String::new(),
        name: String::new(),
        groups: Vec::new(),
        delegation: Vec::new(),
        token_id: None,
        expires: 0,
        proof: policy::Proof::Password,
    };
    let target = policy::Target::named("orders");
    let permit = policy
        .admit(&principal, &target, policy::Occasion::default())
        .ok()?;
    let batch = profile(
        "SELECT a FROM public.app_tenant0471_orders",
        &ProfileLimits::default(),
    );
    let operation = policy::Operation::Sql {
        statements: &batch.statements,
        session: policy::SessionContext {
            search_path: policy::SearchPath::Unknown,
            read_only: true,
            catalogue: None,
            unsettled: false,
        },
    };
    for _ in 0..count {
        (policy.judge(&permit, &operation) == policy::Decision::Allow).then_some(())?;
    }
    Some(())
}

/// Decodes and pairs what a prepared query says and hears.
fn decode(count: u64) -> Option<()> {
    let (asked, answered) = dialogue::prepared()?;
    let mut frontend = FrontendDecoder::new(Limits::default());
    frontend.authenticated();
    let mut backend = BackendDecoder::new(Limits::default());
    let mut pipeline = Pipeline::new(TransactionStatus::Idle);
    for number in 0..count {
        let mut rest = asked.as_slice();
        while let Some(piece) = frontend.decode(rest).ok()? {
            rest = rest.get(piece.wire().len()..)?;
            let codecs::postgres::FrontendPiece::Message(decoded) = piece else {
                return None;
            };
            let request = decoded.message.request()?;
            pipeline
                .handle_frontend(request, Origin::Client, number)
                .ok()?;
        }
        let mut rest = answered.as_slice();
        while let Some(piece) = backend.decode(rest).ok()? {
            rest = rest.get(piece.wire().len()..)?;
            pipeline.handle_backend(piece.event()?).ok()?;
        }
        if !pipeline.is_at_rest() {
            return None;
        }
    }
    Some(())
}

fn shape(count: u64) -> Option<()> {
    let mut out = Vec::new();
    for _ in 0..count {
        out.clear();
        write_shape(SELECT, &mut out).filter(|literals| *literals == 1)?;
    }
    Some(())
}

/// What a text costs that was never seen.
fn profile_new(count: u64) -> Option<()> {
    for _ in 0..count {
        let batch = profile(SELECT, &ProfileLimits::default());
        batch.statements.first()?;
    }
    Some(())
}

fn judge_known(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let classified = Classified::new(directory.path())?;
    for _ in 0..count {
        classified.allows(SELECT).then_some(())?;
    }
    Some(())
}

fn judge_other_literal(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let classified = Classified::new(directory.path())?;
    let texts = dialogue::texts();
    for (_, text) in (0..count).zip(texts.iter().cycle()) {
        classified.allows(text).then_some(())?;
    }
    Some(())
}

/// Records a command and its answer.
fn record(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let mut recorded = Recorded::new(directory.path())?;
    let (asked, answered) = dialogue::simple(SELECT)?;
    for number in 0..count {
        recorded.command_and_response(number, &asked, &answered)?;
    }
    Some(())
}

fn relay_prepared(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let mut session = Session::new(directory.path())?;
    let (asked, answered) = dialogue::prepare()?;
    session.round_trip(&asked, &answered)?;
    let (asked, answered) = dialogue::prepared()?;
    for _ in 0..count {
        session.round_trip(&asked, &answered)?;
    }
    Some(())
}

fn relay_simple(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let mut session = Session::new(directory.path())?;
    let (asked, answered) = dialogue::simple(SELECT)?;
    for _ in 0..count {
        session.round_trip(&asked, &answered)?;
    }
    Some(())
}

fn relay_simple_other_literal(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let mut session = Session::new(directory.path())?;
    let dialogues: Vec<_> = dialogue::texts()
        .iter()
        .map(|text| dialogue::simple(text))
        .collect::<Option<_>>()?;
    for (_, (asked, answered)) in (0..count).zip(dialogues.iter().cycle()) {
        session.round_trip(asked, answered)?;
    }
    Some(())
}

fn relay_rows(count: u64) -> Option<()> {
    let directory = tempfile::tempdir().ok()?;
    let mut session = Session::new(directory.path())?;
    let (asked, answered) = dialogue::rows(SELECT, 1000)?;
    for _ in 0..count {
        session.round_trip(&asked, &answered)?;
    }
    Some(())
}
