//! What is wrong with policy files: where it is said to be, and what is offered instead.

use policy::{DatabasePattern, KnownTarget, Policy, Problem, Source, Target};

use crate::support::{known_targets, principal};

fn problems(text: &str) -> Vec<String> {
    let source = Source {
        file: "p.toml".to_owned(),
        text: text.to_owned(),
    };
    match Policy::compile(&[source], &known_targets()) {
        Ok(compiled) => compiled.warnings.iter().map(Problem::to_string).collect(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "{text}");
}

/// A rule around one match, which stands on line 4 from column 9.
fn check_match(matches: &str, expected: &[&str]) {
    let text =
        format!("[[rule]]\nname = \"r\"\ngroups = [\"*\"]\nallow = {matches}\ntargets = [\"*\"]\n");
    check(&text, expected);
}

#[test]
fn all_problems_of_a_file_are_reported_at_once_in_order_with_the_closest_word() {
    check(
        "[[rule]]\nname = \"r\"\ngroup = [\"a\"]\ntargets = [\"order\"]\nallow = { statments = [\"select\"] }\n\n\
         [[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"oders\", \"nowhere\"]\ndeny = { statements = [\"selct\", \"writes\", \"x\"] }\n\n[[rules]]\n",
        &[
            "p.toml:1:1: the key `groups` is missing",
            "p.toml:3:1: unknown key `group` (did you mean `groups`?)",
            "p.toml:4:12: no target is called `order` (did you mean `orders`?)",
            "p.toml:5:9: the key `statements` is missing",
            "p.toml:5:11: unknown key `statments` (did you mean `statements`?)",
            "p.toml:8:8: a second rule is called `r`",
            "p.toml:10:12: no target is called `oders` (did you mean `orders`?)",
            "p.toml:10:21: no target is called `nowhere`",
            "p.toml:11:24: unknown class of statements `selct` (did you mean `select`?)",
            "p.toml:11:33: unknown class of statements `writes` (did you mean `write`?)",
            "p.toml:11:43: unknown class of statements `x`",
            "p.toml:13:3: unknown key `rules` (did you mean `rule`?)",
        ],
    );
}

#[test]
fn columns_are_counted_in_characters() {
    check_match(
        "{ tables = [\"\u{e9}\u{e9}.t\", \"a b\"], statements = [\"select\"] }",
        &["p.toml:4:29: `a b`: ` ` must be inside quotes"],
    );
}

#[test]
fn toml_that_is_not_toml_is_a_problem_of_its_line() {
    let found = problems("[[rule]]\nname = \n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("p.toml:2:"), "{found:?}");
}

#[test]
fn a_match_that_nothing_can_satisfy_is_a_problem() {
    check_match(
        "{ statements = [] }",
        &["p.toml:4:24: `statements` is empty: the rule matches nothing"],
    );
    check_match(
        "{ statements = [\"select\"], functions = [\"f\"] }",
        &["p.toml:4:48: `functions` has no effect: nothing of class select is done to functions"],
    );
    check_match(
        "{ statements = [\"set\", \"transaction\"], tables = [\"t\"] }",
        &[
            "p.toml:4:57: `tables` has no effect: nothing of class set, transaction is done to tables",
        ],
    );
    check_match(
        "{ statements = [\"function\"] }",
        &[
            "p.toml:4:25: `function` is allowed by name only: give `functions` too, or nothing matches",
        ],
    );
    check_match(
        "{ statements = [\"insert\"], tables = [] }",
        &["p.toml:4:24: the empty lists leave nothing that the rule could match"],
    );
    check_match(
        "{ statements = [\"lock\"], functions = [], tables = [\"t\"] }",
        &[],
    );
    check_match("{ statements = [\"select\"], tables = [] }", &[]);
    check_match(
        "{ statements = [\"select\"], tables = [\"a.b.c\", \"\", \".x\", \"a.\"] }",
        &[
            "p.toml:4:46: `a.b.c`: the pattern has more than two parts: write NAME or SCHEMA.NAME",
            "p.toml:4:55: ``: the pattern is empty",
            "p.toml:4:59: `.x`: a part of the pattern is empty",
            "p.toml:4:65: `a.`: a part of the pattern is empty",
        ],
    );
}

#[test]
fn groups_and_targets_are_not_empty_and_the_star_stands_alone() {
    check(
        "[[rule]]\nname = \"r\"\ngroups = []\ntargets = [\"*\", \"orders\"]\nallow = { statements = [\"*\"] }\n",
        &[
            "p.toml:3:10: `groups` is empty: the rule matches nothing",
            "p.toml:4:11: `*` in `targets` stands for all: leave the other names out",
        ],
    );
}

#[test]
fn a_rule_has_one_of_allow_and_deny_and_a_name_of_its_own() {
    let head = "[[rule]]\ngroups = [\"*\"]\ntargets = [\"*\"]\n";
    check(
        &format!("{head}name = \"r\"\n"),
        &["p.toml:1:1: the rule has neither `allow` nor `deny`"],
    );
    check(
        &format!(
            "{head}name = \"r\"\nallow = {{ statements = [\"*\"] }}\ndeny = {{ statements = [\"drop\"] }}\n"
        ),
        &["p.toml:6:1: a rule has either `allow` or `deny`; write two rules"],
    );
    check(
        &format!("{head}name = \"sallyport:x\"\nallow = {{ statements = [\"*\"] }}\n"),
        &["p.toml:4:8: a rule's name is 1 to 100 letters, digits, `-`, `_` or `.`"],
    );
    let rule = format!("{head}name = \"r\"\nallow = {{ statements = [\"*\"] }}\n");
    check(
        &format!("{rule}{rule}"),
        &["p.toml:9:8: a second rule is called `r`"],
    );
}

#[test]
fn a_message_is_one_line_and_belongs_to_a_deny() {
    let head = "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n";
    check(
        &format!("{head}allow = {{ statements = [\"read\"] }}\nmessage = \"x\"\n"),
        &["p.toml:6:11: `message` is shown by a deny; this rule has none"],
    );
    let deny = format!("{head}deny = {{ statements = [\"drop\"] }}\n");
    let too_long = "x".repeat(501);
    for message in ["", " ", "a\\nb", "a\\u001bb", too_long.as_str()] {
        check(
            &format!("{deny}message = \"{message}\"\n"),
            &["p.toml:6:11: `message` is one line of 1 to 500 characters"],
        );
    }
    check(&format!("{deny}message = \"{}\"\n", "x".repeat(500)), &[]);
}

#[test]
fn words_of_later_versions_are_named_as_such() {
    check(
        "[[mask]]\nname = \"m\"\n",
        &[
            "p.toml:1:3: `mask` is a word of the policy language that this version does not have yet",
        ],
    );
    check(
        "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nhold = { statements = [\"insert\"] }\n",
        &[
            "p.toml:1:1: the rule has neither `allow` nor `deny`",
            "p.toml:5:1: `hold` is a word of the policy language that this version does not have yet",
        ],
    );
}

#[test]
fn a_rule_that_a_deny_always_overrules_and_an_allow_of_unknown_are_warnings() {
    check(
        "[[rule]]\nname = \"a\"\ngroups = [\"x\"]\ntargets = [\"orders\"]\nallow = { statements = [\"drop\"] }\n\
         [[rule]]\nname = \"d\"\ngroups = [\"*\"]\ntargets = [\"*\"]\ndeny = { statements = [\"ddl\"] }\n\
         [[rule]]\nname = \"u\"\ngroups = [\"x\"]\ntargets = [\"orders\"]\nallow = { statements = [\"unknown\"] }\n",
        &[
            "p.toml:2:8: `a` never allows anything: `d` denies all of it",
            "p.toml:12:8: `u` allows `unknown`: whatever Sallyport cannot judge, on every object",
        ],
    );
}

#[test]
fn values_of_the_wrong_type_are_problems() {
    check("rule = 1\n", &["p.toml:1:8: write `[[rule]]`"]);
    check(
        "[[rule]]\nname = 1\ngroups = \"*\"\ntargets = [1]\nallow = []\n",
        &[
            "p.toml:2:8: `name` is a string",
            "p.toml:3:10: `groups` is a list of strings",
            "p.toml:4:12: `targets` is a list of strings",
            "p.toml:5:9: expected `{ statements = [...] }`",
        ],
    );
}

#[test]
fn problems_name_their_own_file_and_none_of_two_files_is_left_out() {
    let file = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let found =
        Policy::compile(&[file("a.toml", "x = 1\n"), file("b.toml", "y = 1\n")], &[]).unwrap_err();
    let found: Vec<_> = found.iter().map(Problem::to_string).collect();
    assert_eq!(
        found,
        ["a.toml:1:1: unknown key `x`", "b.toml:1:1: unknown key `y`"]
    );
}

#[test]
fn the_version_changes_with_every_byte_of_the_sources() {
    let version = |file: &str, text: &str| {
        let source = Source {
            file: file.to_owned(),
            text: text.to_owned(),
        };
        Policy::compile(&[source], &[]).unwrap().policy.version()
    };
    let one = version("a", "");
    assert_eq!(one, version("a", ""));
    assert_ne!(one, version("b", ""));
    assert_ne!(one, version("a", "#"));
    assert_ne!(one, Policy::compile(&[], &[]).unwrap().policy.version());
}

#[test]
fn a_rule_names_a_database_only_of_a_target_that_has_it() {
    let patterns = [DatabasePattern::new("app_*").unwrap()];
    let known = [
        KnownTarget {
            name: "orders",
            databases: &[],
        },
        KnownTarget {
            name: "apps",
            databases: &patterns,
        },
    ];
    let compile = |target: &str| {
        let rule = format!(
            "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"{target}\"]\n\
             allow = {{ statements = [\"read\"] }}\n"
        );
        let source = Source {
            file: "p.toml".to_owned(),
            text: rule,
        };
        match Policy::compile(&[source], &known) {
            Ok(compiled) => Ok(compiled.policy),
            Err(problems) => Err(problems.iter().map(Problem::to_string).collect::<String>()),
        }
    };
    for (target, problem) in [
        ("apps/orders", "the target `apps` has no such database"),
        ("orders/orders", "the target `orders` has no such database"),
        ("app/app_eu", "no target is called `app/app_eu`"),
    ] {
        let found = compile(target).unwrap_err();
        assert!(found.contains(problem), "{found}");
    }
    let admits =
        |policy: &Policy, target: &Target| policy.admit(&principal(&["a"]), target).is_ok();
    let (eu, us) = (
        Target::named("apps").database("app_eu"),
        Target::named("apps").database("app_us"),
    );
    let one = compile("apps/app_eu").unwrap();
    assert!(admits(&one, &eu));
    assert!(!admits(&one, &us));
    assert!(!admits(&one, &Target::named("apps")));
    let all = compile("apps").unwrap();
    assert!(admits(&all, &eu) && admits(&all, &us) && admits(&all, &Target::named("apps")));
}
