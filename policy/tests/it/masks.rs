//! From masks, a catalogue and a lineage to what is done to an answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::catalogue::{Catalogue, Column, Parts, Qualified, Relation, RelationKind};
use policy::mask::{Detect, MaskPlan, MaskRule, MaskedColumns, OnLost, Outputs, Transform};
use policy::pattern::{ColumnPattern, Pattern};
use policy::sql::lineage::{Called, ColumnId, Decides, Escapes, Held, Lineage, Lost, Output};

const CUSTOMERS: u32 = 100;
const ARCHIVE: u32 = 101;
const ORDERS: u32 = 102;
const TEXT: u32 = 25;

fn relation(oid: u32, name: &str, columns: &[&str], parents: &[u32]) -> Relation {
    Relation {
        oid,
        name: Qualified {
            schema: "public".into(),
            name: name.into(),
        },
        kind: RelationKind::Table,
        columns: columns
            .iter()
            .zip(1..)
            .map(|(name, number)| Column {
                number,
                name: (*name).into(),
                type_oid: TEXT,
            })
            .collect(),
        definition: None,
        rules: Vec::new(),
        triggers: Vec::new(),
        parents: parents.to_vec(),
        cascades: Vec::new(),
        references: Vec::new(),
        expressions: Vec::new(),
        unique_columns: Vec::new(),
    }
}

/// `archive` inherits from `customers`, and has its columns in another order.
fn catalogue() -> Catalogue {
    Catalogue::new(
        1,
        Parts {
            relations: vec![
                relation(CUSTOMERS, "customers", &["id", "card", "email"], &[]),
                relation(ARCHIVE, "archive", &["card", "id", "secret"], &[CUSTOMERS]),
                relation(ORDERS, "orders", &["id", "total"], &[]),
            ],
            ..Parts::default()
        },
    )
}

fn mask(name: &str, columns: &[&str], with: Transform) -> MaskRule {
    MaskRule {
        name: name.to_owned(),
        columns: columns
            .iter()
            .map(|column| ColumnPattern::parse(column).unwrap())
            .collect(),
        detect: Detect::default(),
        with,
        deny_predicates: false,
        clear_functions: Vec::new(),
        on_lost: OnLost::Deny,
    }
}

fn masked(masks: &[MaskRule]) -> Arc<MaskedColumns> {
    Arc::new(MaskedColumns::find(masks.iter(), &catalogue()))
}

fn column(relation: u32, number: i16) -> ColumnId {
    ColumnId { relation, number }
}

fn output(sources: &[ColumnId], untouched: bool) -> Output {
    Output {
        sources: sources.iter().copied().collect(),
        untouched,
        ..Output::default()
    }
}

fn shows(outputs: Vec<Output>) -> Lineage {
    Lineage {
        relations: outputs
            .iter()
            .flat_map(|output| &output.sources)
            .map(|source| source.relation)
            .collect(),
        outputs: Some(outputs),
        ..Lineage::default()
    }
}

fn outputs(lineage: &Lineage, masks: &[MaskRule]) -> Outputs {
    MaskPlan::make(lineage, &masked(masks)).unwrap().outputs
}

fn refusal(lineage: &Lineage, masks: &[MaskRule]) -> (String, Option<String>) {
    let refusal = MaskPlan::make(lineage, &masked(masks)).unwrap_err();
    (refusal.message, refusal.rule)
}

fn last4() -> Vec<MaskRule> {
    vec![mask("cards", &["customers.card"], Transform::Last4)]
}

#[test]
fn a_revealing_transform_suits_an_untouched_reference_alone() {
    let card = column(CUSTOMERS, 2);
    let lineage = shows(vec![
        output(&[card], true),
        output(&[card], false),
        output(&[column(CUSTOMERS, 1)], true),
        output(&[card, column(CUSTOMERS, 1)], false),
        output(&[], false),
    ]);
    assert_eq!(
        outputs(&lineage, &last4()),
        Outputs::Each(vec![
            Some(Transform::Last4),
            Some(Transform::Redact),
            None,
            Some(Transform::Redact),
            None,
        ])
    );
}

#[test]
fn a_whole_row_shows_its_masked_columns() {
    let lineage = shows(vec![
        output(&[column(CUSTOMERS, 0)], true),
        output(&[column(ORDERS, 0)], true),
    ]);
    let null = vec![mask("cards", &["customers.card"], Transform::Null)];
    assert_eq!(
        outputs(&lineage, &null),
        Outputs::Each(vec![Some(Transform::Null), None])
    );
    // The last four characters of a row are those of its last column.
    assert_eq!(
        outputs(&lineage, &last4()),
        Outputs::Each(vec![Some(Transform::Redact), None])
    );
}

#[test]
fn a_mask_reaches_children_and_parents_by_the_columns_name() {
    let found = masked(&last4());
    assert_eq!(
        found.column(column(ARCHIVE, 1)).map(|masked| &masked.with),
        Some(&Transform::Last4)
    );
    assert_eq!(found.column(column(ARCHIVE, 2)), None);
    let below = masked(&[mask("cards", &["archive.card"], Transform::Null)]);
    assert_eq!(
        below
            .column(column(CUSTOMERS, 2))
            .map(|masked| &masked.with),
        Some(&Transform::Null)
    );
    assert!(below.touches(CUSTOMERS) && !below.touches(ORDERS));
}

#[test]
fn the_stricter_of_two_masks_counts() {
    let two = [
        mask("show", &["customers.card"], Transform::Last4),
        mask("hide", &["*.card"], Transform::Redact),
    ];
    let found = masked(&two);
    let card = found.column(column(CUSTOMERS, 2)).unwrap();
    assert_eq!(
        (&card.with, card.mask.as_str()),
        (&Transform::Redact, "show")
    );
}

#[test]
fn a_mask_that_names_nothing_is_reported() {
    let masks = [
        mask(
            "typo",
            &["customers.cart", "public.customers.card"],
            Transform::Redact,
        ),
        mask("elsewhere", &["hr.people.*"], Transform::Redact),
    ];
    assert_eq!(
        masked(&masks).unmatched(),
        [
            ("typo".to_owned(), "customers.cart".to_owned()),
            ("elsewhere".to_owned(), "hr.people.*".to_owned()),
        ]
    );
}

#[test]
fn a_masked_value_leaves_by_the_answer_alone() {
    let card = column(CUSTOMERS, 2);
    for (how, words) in [(Escapes::Stored, "stored"), (Escapes::Sent, "sent")] {
        let lineage = Lineage {
            escaping: BTreeSet::from([(column(ORDERS, 1), Escapes::Stored), (card, how)]),
            ..Lineage::default()
        };
        let (message, rule) = refusal(&lineage, &last4());
        assert!(
            message.starts_with("public.customers.card is masked"),
            "{message}"
        );
        assert!(message.contains(words), "{message}");
        assert_eq!(rule.as_deref(), Some("cards"));
    }
}

#[test]
fn a_table_with_a_masked_column_keeps_its_definition() {
    let redefines = |oid| Lineage {
        redefined: BTreeSet::from([oid]),
        ..Lineage::default()
    };
    assert!(
        refusal(&redefines(CUSTOMERS), &last4())
            .0
            .contains("definition")
    );
    assert!(MaskPlan::make(&redefines(ORDERS), &masked(&last4())).is_ok());
}

#[test]
fn a_masked_column_decides_unless_its_mask_forbids_it() {
    let decides = Lineage {
        deciding: BTreeSet::from([(column(CUSTOMERS, 2), Decides::OrderBy)]),
        ..Lineage::default()
    };
    assert!(MaskPlan::make(&decides, &masked(&last4())).is_ok());
    let mut forbidding = last4();
    forbidding[0].deny_predicates = true;
    assert!(refusal(&decides, &forbidding).0.contains("ORDER BY"));
    // A whole row decides by each of its columns.
    let by_row = Lineage {
        deciding: BTreeSet::from([(column(CUSTOMERS, 0), Decides::Distinct)]),
        ..Lineage::default()
    };
    forbidding.insert(0, mask("mail", &["customers.email"], Transform::Null));
    assert!(refusal(&by_row, &forbidding).0.contains("customers.card"));
}

#[test]
fn what_can_not_be_traced_is_denied_or_redacted_whole() {
    let lost = |relations: Option<&[u32]>| Lineage {
        lost: vec![Lost {
            reason: "f() is not built in".to_owned(),
            relations: relations.map(|some| some.iter().copied().collect()),
        }],
        ..shows(vec![output(&[], false)])
    };
    let mut masks = last4();
    for relations in [None, Some([ORDERS, CUSTOMERS].as_slice())] {
        assert!(
            refusal(&lost(relations), &masks)
                .0
                .contains("f() is not built in")
        );
    }
    assert_eq!(
        outputs(&lost(Some(&[ORDERS])), &masks),
        Outputs::Each(vec![None])
    );
    masks[0].on_lost = OnLost::Redact;
    assert_eq!(
        outputs(&lost(None), &masks),
        Outputs::All(Transform::Redact)
    );
    assert!(
        MaskPlan::make(&lost(None), &masked(&masks))
            .unwrap()
            .withholds_texts
    );
    // Without a masked column there is nothing to lose.
    assert_eq!(outputs(&lost(None), &[]), Outputs::Each(vec![None]));
}

#[test]
fn rows_of_another_statement_are_redacted_unless_its_plan_is_at_hand() {
    for held in [
        Held::Executes("p".to_owned()),
        Held::Fetches("c".to_owned()),
    ] {
        let lineage = Lineage {
            held: Some(held),
            ..Lineage::default()
        };
        assert_eq!(outputs(&lineage, &last4()), Outputs::All(Transform::Redact));
    }
}

#[test]
fn words_of_the_server_are_withheld_where_rows_with_masked_columns_are_at_hand() {
    let withholds = |oid| {
        let lineage = Lineage {
            relations: BTreeSet::from([oid]),
            ..Lineage::default()
        };
        MaskPlan::make(&lineage, &masked(&last4()))
            .unwrap()
            .withholds_texts
    };
    assert!(withholds(CUSTOMERS) && withholds(ARCHIVE) && !withholds(ORDERS));
}

fn calls(given: &[ColumnId]) -> Lineage {
    let result = ColumnId {
        relation: 0,
        number: 1,
    };
    Lineage {
        calls: vec![Called {
            schema: Some("app".into()),
            name: "f".into(),
            given: given.iter().copied().collect(),
        }],
        ..shows(vec![output(&[result], false), output(&[], false)])
    }
}

#[test]
fn a_function_that_nobody_looked_into_is_denied_unless_each_mask_says_it_is_clear() {
    let mut masks = last4();
    assert!(refusal(&calls(&[]), &masks).0.contains("app.f()"));
    masks[0].on_lost = OnLost::Redact;
    assert_eq!(
        outputs(&calls(&[]), &masks),
        Outputs::Each(vec![Some(Transform::Redact), None])
    );
    let given = refusal(&calls(&[column(CUSTOMERS, 2)]), &masks).0;
    assert!(given.starts_with("public.customers.card is masked") && given.contains("app.f()"));
    masks[0].clear_functions = vec![Pattern::parse("app.*").unwrap()];
    for lineage in [calls(&[]), calls(&[column(CUSTOMERS, 2)])] {
        assert_eq!(outputs(&lineage, &masks), Outputs::Each(vec![None, None]));
    }
    masks.push(mask("mail", &["customers.email"], Transform::Null));
    assert!(refusal(&calls(&[]), &masks).0.contains("app.f()"));
}

#[test]
fn an_output_that_may_be_of_any_table_is_redacted_and_the_others_are_not() {
    let any = output(&[ColumnId::ANY], false);
    let lineage = Lineage {
        referenced: BTreeSet::from([ColumnId::ANY]),
        ..shows(vec![any, output(&[column(ORDERS, 1)], true)])
    };
    assert_eq!(
        outputs(&lineage, &last4()),
        Outputs::Each(vec![Some(Transform::Redact), None])
    );
    assert!(
        MaskPlan::make(&lineage, &masked(&last4()))
            .unwrap()
            .withholds_texts
    );
    assert_eq!(outputs(&lineage, &[]), Outputs::Each(vec![None, None]));
    let mut forbidding = last4();
    forbidding[0].deny_predicates = true;
    let decides = Lineage {
        deciding: BTreeSet::from([(ColumnId::ANY, Decides::Where)]),
        ..Lineage::default()
    };
    assert!(refusal(&decides, &forbidding).0.contains("WHERE"));
}
