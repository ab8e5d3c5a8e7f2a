//! What is read back from journals: a damaged record is an error, and a strange one is still shown.

use appliance::recorder::SessionStart;
use appliance::recorder::format::{CommandKind, Record, RecordHeader, RecordedDecision, Verdict};
use appliance::recorder::replay::{Event, EventKind, RecordedCommand, Transcript};

/// The body of a frame.
pub fn record(input: &[u8]) {
    let Ok((header, fields)) = RecordHeader::decode(input) else {
        return;
    };
    assert!(fields.len() < input.len());
    if let Ok(Record::Command(command)) = Record::decode(&header, fields) {
        assert!(command.wire.len() <= fields.len());
        if let Ok(decision) = command.decision() {
            assert!(decision.effects.len() <= fields.len());
        }
    }
}

/// The events of a session, as the replay reads them: a kind, a length of up to 255, and as many
/// bytes each.
pub fn transcript(input: &[u8]) {
    let mut transcript = Transcript::new();
    let mut rest = input;
    let mut sequence = 0;
    transcript.tell(event(sequence, EventKind::Started(start())));
    while let Some(([kind, length], behind)) = rest.split_first_chunk() {
        let (wire, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        sequence += 1;
        let (what, shows) = match kind % 4 {
            0 => (
                EventKind::Response {
                    rows: 0,
                    wire: wire.to_vec(),
                },
                false,
            ),
            1 => (EventKind::Missing { records: 1 }, true),
            _ => (EventKind::Command(command(*kind, wire)), true),
        };
        let told = transcript.tell(event(sequence, what));
        assert!(!shows || !told.is_empty());
        assert!(told.iter().all(|told| told.sequence == sequence));
    }
    assert!(
        !transcript
            .tell(event(sequence + 1, EventKind::Interrupted))
            .is_empty()
    );
}

fn event(sequence: u64, what: EventKind) -> Event {
    Event {
        at: 1,
        sequence,
        number: sequence,
        what,
    }
}

fn start() -> SessionStart {
    SessionStart {
        protocol: "postgres".to_owned(),
        ..SessionStart::default()
    }
}

fn command(kind: u8, wire: &[u8]) -> RecordedCommand {
    let kinds = CommandKind::ALL;
    RecordedCommand {
        kind: kinds[usize::from(kind >> 2) % kinds.len()],
        decision: RecordedDecision {
            verdict: Verdict::ALL[0],
            rule: None,
            policy: 0,
            effects: Vec::new(),
            effects_left_out: 0,
            search_path: None,
            foreshadowed: None,
        },
        cuts: u64::from(kind & 1),
        total_bytes: wire.len() as u64,
        wire: wire.to_vec(),
    }
}
