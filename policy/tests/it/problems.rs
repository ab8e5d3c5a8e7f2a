//! What is wrong with policy files: where it is said to be, and what is offered instead.

use policy::{DatabasePattern, Known, KnownTarget, Policy, Problem, Source, Target};

use crate::support::{known_targets, occasion, principal};

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
            "p.toml:8:8: another rule, mask or budget is called `r`",
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
            "p.toml:3:10: `groups` is empty: it matches nothing",
            "p.toml:4:11: `*` in `targets` stands for all: leave the other names out",
        ],
    );
}

#[test]
fn a_rule_has_one_of_allow_and_deny_and_a_name_of_its_own() {
    let head = "[[rule]]\ngroups = [\"*\"]\ntargets = [\"*\"]\n";
    check(
        &format!("{head}name = \"r\"\n"),
        &["p.toml:1:1: the rule has none of `allow`, `deny` and `hold`"],
    );
    check(
        &format!(
            "{head}name = \"r\"\nallow = {{ statements = [\"*\"] }}\ndeny = {{ statements = [\"drop\"] }}\n"
        ),
        &["p.toml:6:1: a rule has one of `allow`, `deny` and `hold`; write two rules"],
    );
    check(
        &format!("{head}name = \"sallyport:x\"\nallow = {{ statements = [\"*\"] }}\n"),
        &["p.toml:4:8: the name of a rule is 1 to 100 letters, digits, `-`, `_` or `.`"],
    );
    let rule = format!("{head}name = \"r\"\nallow = {{ statements = [\"*\"] }}\n");
    check(
        &format!("{rule}{rule}"),
        &["p.toml:9:8: another rule, mask or budget is called `r`"],
    );
}

#[test]
fn a_message_is_one_line_and_belongs_to_a_deny() {
    let head = "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n";
    check(
        &format!("{head}allow = {{ statements = [\"read\"] }}\nmessage = \"x\"\n"),
        &["p.toml:6:11: `message` is shown by a deny or hold; this rule has none"],
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
fn a_hold_names_who_approves_and_nothing_else_does() {
    let head = "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n";
    let hold = format!("{head}hold = {{ statements = [\"insert\"] }}\n");
    check(
        &hold,
        &["p.toml:1:1: a hold needs `approvers`: groups whose members may approve"],
    );
    check(&format!("{hold}approvers = [\"oncall\"]\n"), &[]);
    for approvals in [1, 10] {
        check(
            &format!("{hold}approvers = [\"oncall\"]\napprovals = {approvals}\n"),
            &[],
        );
    }
    for approvals in ["0", "11", "4294967297"] {
        check(
            &format!("{hold}approvers = [\"oncall\"]\napprovals = {approvals}\n"),
            &["p.toml:7:13: `approvals` is a number of people from 1 to 10"],
        );
    }
    for expires in ["0s", "25h", "soon"] {
        check(
            &format!("{hold}approvers = [\"*\"]\nexpires = \"{expires}\"\n"),
            &[
                "p.toml:6:13: `*` in `approvers`: name the groups that may approve",
                "p.toml:7:11: `expires` is a duration up to a day, such as \"10m\"",
            ],
        );
    }
    check(
        &format!(
            "{head}deny = {{ statements = [\"drop\"] }}\napprovers = [\"a\"]\nexpires = \"1m\"\napprovals = 2\n"
        ),
        &[
            "p.toml:6:1: `approvers` belongs to a hold; this rule has none",
            "p.toml:7:1: `expires` belongs to a hold; this rule has none",
            "p.toml:8:1: `approvals` belongs to a hold; this rule has none",
        ],
    );
}

#[test]
fn columns_narrow_what_is_done_to_columns() {
    check_match(
        "{ statements = [\"select\", \"show\"], columns = [\"t.a\", \"s.t.*\"] }",
        &[],
    );
    check_match(
        "{ statements = [\"select\", \"delete\"], columns = [\"t.a\"] }",
        &["p.toml:4:35: `delete` is not done to columns: give `tables`"],
    );
    check_match(
        "{ statements = [\"select\"], tables = [\"t\"], columns = [\"t.a\"] }",
        &["p.toml:4:52: `columns` stands in place of `tables`; write two rules"],
    );
    check_match(
        "{ statements = [\"show\"], columns = [\"t.a\"] }",
        &["p.toml:4:44: `columns` has no effect: nothing of class show is done to columns"],
    );
    check_match(
        "{ statements = [\"select\"], columns = [\"a\", \"a.b.c.d\"] }",
        &[
            "p.toml:4:47: `a`: a column is written TABLE.COLUMN or SCHEMA.TABLE.COLUMN",
            "p.toml:4:52: `a.b.c.d`: a column is written TABLE.COLUMN or SCHEMA.TABLE.COLUMN",
        ],
    );
}

#[test]
fn who_and_from_where_is_checked_word_by_word() {
    check(
        "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"read\"] }\n\
         networks = [\"10.0.0.0/8\", \"10.0.0.1/8\", \"here\", \"unix\"]\nissuers = [\"crop\"]\n\
         subjects = []\ndelegated = \"nevr\"\nactors = [\"\"]\n",
        &[
            "p.toml:6:27: `10.0.0.1/8`: the network has bits set behind its length of 8",
            "p.toml:6:41: `here`: expected a network such as `10.0.0.0/8` or `2001:db8::/32`, an address, or `unix`",
            "p.toml:7:12: no issuer is called `crop` (did you mean `corp`?)",
            "p.toml:8:12: `subjects` is empty: it matches nothing",
            "p.toml:9:13: `delegated` is `never` or `required` (did you mean `never`?)",
            "p.toml:10:11: ``: an empty name",
        ],
    );
}

#[test]
fn a_window_has_days_hours_and_a_zone_that_exist() {
    let head = "[[rule]]\nname = \"r\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"read\"] }\n";
    check(
        &format!(
            "{head}when = {{ days = [\"mon\"], hours = \"22:00-06:00\", zone = \"Europe/Berlin\" }}\n"
        ),
        &[],
    );
    check(
        &format!("{head}when = {{ days = [\"mo\", \"mon\"], hours = \"8-18\", zone = \"UTC\" }}\n"),
        &[
            "p.toml:6:18: `mo` is no day of the week (did you mean `mon`?)",
            "p.toml:6:40: `8-18`: expected hours such as `08:00-18:00`",
        ],
    );
    check(
        &format!("{head}when = {{ days = [], hours = \"08:00-08:00\" }}\n"),
        &[
            "p.toml:6:17: `days` is empty: it matches nothing",
            "p.toml:6:29: `08:00-08:00`: the hours are empty: they begin when they end",
        ],
    );
    check(
        &format!("{head}when = {{ zone = \"Europe/Belrin\" }}\n"),
        &[
            "p.toml:6:8: the window is always open: give `days` or `hours`",
            "p.toml:6:17: no time zone is called `Europe/Belrin` (did you mean `Europe/Berlin`?)",
        ],
    );
}

#[test]
fn a_mask_hides_something_with_a_known_transform() {
    let head = "[[mask]]\nname = \"m\"\ntargets = [\"orders\"]\n";
    check(
        &format!("{head}columns = [\"customers.card\"]\nwith = \"last4\"\n"),
        &["p.toml:2:8: `m` hides nothing: no rule lets anybody into its targets"],
    );
    check(
        &format!("{head}with = \"redact\"\n"),
        &["p.toml:1:1: the mask hides nothing: give `columns`, `detect`, `patterns` or `words`"],
    );
    check(
        &format!(
            "{head}detect = [\"emial\"]\nwith = \"redcat\"\ngroups = []\nexcept_groups = [\"*\"]\n\
             deny_predicates = true\non_lost = \"denny\"\n"
        ),
        &[
            "p.toml:4:11: no detector is called `emial` (did you mean `email`?)",
            "p.toml:5:8: `redcat`: unknown transform; one of redact, null, fixed:TEXT, last4, first:N, hash, round:N, truncate:UNIT (did you mean `redact`?)",
            "p.toml:6:10: `groups` is empty: it matches nothing",
            "p.toml:7:17: `*` in `except_groups` leaves nobody",
            "p.toml:8:1: `deny_predicates` has no effect without `columns`",
            "p.toml:9:1: `on_lost` has no effect without `columns`",
            "p.toml:9:11: `on_lost` is `deny` or `redact` (did you mean `deny`?)",
        ],
    );
    check(
        "[[mask]]\n",
        &[
            "p.toml:1:1: the key `name` is missing",
            "p.toml:1:1: the key `targets` is missing",
            "p.toml:1:1: the key `with` is missing",
            "p.toml:1:1: the mask hides nothing: give `columns`, `detect`, `patterns` or `words`",
        ],
    );
}

#[test]
fn a_budget_limits_something_by_numbers() {
    let head = "[[budget]]\nname = \"b\"\ntargets = [\"*\"]\n";
    check(
        &format!(
            "{head}rows = 100_000\nbytes = \"256MiB\"\nstatements_per_minute = 0\nsessions = 2\n\
             statement_time = \"30s\"\nper = \"session\"\n"
        ),
        &["p.toml:2:8: `b` limits nothing: no rule lets anybody into its targets"],
    );
    check(
        head,
        &[
            "p.toml:1:1: the budget limits nothing: give one of `rows`, `bytes`, `statements_per_minute`, `statement_time`, `sessions`",
        ],
    );
    check(
        &format!(
            "{head}rows = -1\nbytes = 5\nstatements_per_minute = \"many\"\nsessions = 1.5\n\
             statement_time = \"9ms\"\nper = \"shard\"\n"
        ),
        &[
            "p.toml:4:8: `rows` is a number from 0",
            "p.toml:5:9: `bytes` is a size such as \"256MiB\"",
            "p.toml:6:25: `statements_per_minute` is a number from 0",
            "p.toml:7:12: `sessions` is a number from 0",
            "p.toml:8:18: `statement_time` is a duration from 10ms to a day, such as \"30s\"",
            "p.toml:9:7: `per` is `principal` or `session`",
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

fn rule(name: &str, body: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\ngroups = [\"*\"]\ntargets = [\"orders\"]\n{body}\n")
}

#[test]
fn grants_that_are_wider_than_their_name_says_are_warnings() {
    let allow = |name: &str, words: &str| rule(name, &format!("allow = {{ {words} }}"));
    check(
        &allow("readers-read", "statements = [\"read\", \"session\"]"),
        &[],
    );
    check(
        &allow(
            "orders.reads",
            "statements = [\"read\", \"insert\", \"delete\"]",
        ),
        &["p.toml:2:8: `orders.reads` allows more than its name says: insert, delete"],
    );
    check(
        &allow("read-write", "statements = [\"read\", \"insert\"]"),
        &[],
    );
    check(&allow("already", "statements = [\"insert\"]"), &[]);
    check(
        &allow("all", "statements = [\"*\"]"),
        &[
            "p.toml:2:8: `all` allows everything but `unknown` on every object: changes of tables, roles and settings of the server among it",
        ],
    );
    check(
        &allow("all", "statements = [\"*\"], tables = [\"a.*\"]"),
        &[],
    );
}

#[test]
fn a_rule_of_which_a_hold_leaves_nothing_is_a_warning() {
    let allow = rule("inserts", "allow = { statements = [\"insert\"] }");
    let hold = |more: &str| {
        rule(
            "ask",
            &format!("hold = {{ statements = [\"write\"]{more} }}\napprovers = [\"oncall\"]"),
        )
    };
    check(
        &format!("{allow}{}", hold("")),
        &["p.toml:2:8: `inserts` never allows anything: `ask` holds all of it"],
    );
    check(&format!("{allow}{}", hold(", tables = [\"t\"]")), &[]);
}

#[test]
fn masks_and_budgets_of_targets_that_nobody_enters_are_warnings() {
    let allow = rule("read", "allow = { statements = [\"read\"] }");
    let mask = |target: &str| {
        format!(
            "[[mask]]\nname = \"m\"\ntargets = [\"{target}\"]\ncolumns = [\"t.a\"]\nwith = \"null\"\n"
        )
    };
    check(&format!("{allow}{}", mask("orders")), &[]);
    check(&format!("{allow}{}", mask("*")), &[]);
    check(
        &format!("{allow}{}", mask("billing")),
        &["p.toml:7:8: `m` hides nothing: no rule lets anybody into its targets"],
    );
    check(
        "[[budget]]\nname = \"b\"\ntargets = [\"*\"]\nrows = 1\n",
        &["p.toml:2:8: `b` limits nothing: no rule lets anybody into its targets"],
    );
}

#[test]
fn a_group_that_no_issuer_gives_is_a_warning() {
    let text = "[[rule]]\nname = \"r\"\ngroups = [\"ci:build\", \"deploy\", \"analysts\"]\ntargets = [\"orders\"]\n\
                hold = { statements = [\"read\"] }\napprovers = [\"ci:oncall\", \"boss\"]\n";
    check(text, &[]);
    let source = Source {
        file: "p.toml".to_owned(),
        text: text.to_owned(),
    };
    // Without the issuer that may give any group.
    let known = Known {
        issuers: &known_targets().issuers[1..],
        ..known_targets()
    };
    let warnings = Policy::compile(&[source], &known).unwrap().warnings;
    let warnings: Vec<_> = warnings.iter().map(Problem::to_string).collect();
    assert_eq!(
        warnings,
        [
            "p.toml:2:8: no issuer gives anybody the group `analysts`",
            "p.toml:2:8: no issuer gives anybody the group `boss`",
        ]
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
    let found = Policy::compile(
        &[file("a.toml", "x = 1\n"), file("b.toml", "y = 1\n")],
        &Known::default(),
    )
    .unwrap_err();
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
        Policy::compile(&[source], &Known::default())
            .unwrap()
            .policy
            .version()
    };
    let one = version("a", "");
    assert_eq!(one, version("a", ""));
    assert_ne!(one, version("b", ""));
    assert_ne!(one, version("a", "#"));
    assert_ne!(
        one,
        Policy::compile(&[], &Known::default())
            .unwrap()
            .policy
            .version()
    );
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
    let known = Known {
        targets: &known,
        issuers: &[],
    };
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
    let admits = |policy: &Policy, target: &Target| {
        policy.admit(&principal(&["a"]), target, occasion()).is_ok()
    };
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
