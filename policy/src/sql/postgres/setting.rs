//! Settings that statements change.
//!
//! Which of them are protected is said in `guard`.

use pg_query::protobuf as p;
use pg_query::{Node, NodeEnum};

use super::walker::{Arguments, Walker};
use crate::class::Class;
use crate::sql::profile::{By, Change, Object, Reason, Scope, SettingChange};

/// Words in a setting's name that make its value a secret.
const SECRET_WORDS: [&str; 4] = ["password", "conninfo", "secret", "token"];

impl Walker<'_> {
    /// SET or RESET, as a statement or as a clause of ALTER ROLE, ALTER SYSTEM or a function.
    pub(super) fn set_statement(&mut self, set: &p::VariableSetStmt, scope: Scope) {
        use p::VariableSetKind as Kind;
        let scope = if set.is_local { Scope::Local } else { scope };
        let name = set.name.to_ascii_lowercase();
        let change = match set.kind() {
            Kind::VarSetMulti => return self.characteristics(set, &name),
            Kind::VarResetAll => {
                self.other(Class::Set, "setting", "");
                self.changes_search_path = true;
                self.settings.push(SettingChange {
                    name: String::new(),
                    change: Change::ResetAll,
                    scope,
                    by: By::Statement,
                });
                return;
            }
            Kind::VarSetValue => set
                .args
                .iter()
                .map(literal)
                .collect::<Option<Vec<_>>>()
                .filter(|values| !values.is_empty())
                .map_or(Change::Opaque, Change::Set),
            Kind::VarSetDefault => Change::Default,
            Kind::VarReset => Change::Reset,
            Kind::VarSetCurrent => Change::Opaque,
            Kind::Undefined => {
                self.unknown(Reason::Part);
                return;
            }
        };
        if is_secret(&name) {
            self.secrets.extend(set.args.iter().filter_map(location_of));
        }
        self.setting(name, change, scope, By::Statement);
    }

    /// `set_config(name, value, is_local)`.
    pub(super) fn set_config(&mut self, arguments: &Arguments<'_>) {
        let Some(name) = self.text_of(arguments, 0).map(str::to_ascii_lowercase) else {
            self.other(Class::Set, "setting", "");
            self.changes_search_path = true;
            self.settings.push(SettingChange {
                name: String::new(),
                change: Change::Opaque,
                scope: Scope::Session,
                by: By::Function,
            });
            return;
        };
        let change = arguments
            .text(1)
            .map_or(Change::Opaque, |value| Change::Set(vec![value.to_owned()]));
        let scope = if arguments.boolean(2) == Some(true) {
            Scope::Local
        } else {
            Scope::Session
        };
        self.setting(name, change, scope, By::Function);
    }

    /// The options of BEGIN, START TRANSACTION and SET TRANSACTION.
    pub(super) fn transaction_options(&mut self, options: &[Node]) {
        self.modes(options, "", Scope::Transaction);
    }

    fn characteristics(&mut self, set: &p::VariableSetStmt, name: &str) {
        match name {
            "transaction" => {
                self.add(Class::Transaction, Object::Nothing);
                self.modes(&set.args, "", Scope::Transaction);
            }
            "session characteristics" => {
                self.other(Class::Set, "setting", "session characteristics");
                self.modes(&set.args, "default_", Scope::Session);
            }
            "transaction snapshot" => self.add(Class::Transaction, Object::Nothing),
            _ => self.unknown(Reason::Part),
        }
    }

    fn modes(&mut self, options: &[Node], prefix: &str, scope: Scope) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else {
                self.unknown(Reason::Part);
                continue;
            };
            let value = option.arg.as_deref().and_then(literal);
            let change = match (option.defname.as_str(), value) {
                ("transaction_read_only" | "transaction_deferrable", Some(value)) => {
                    let word = if value == "0" { "off" } else { "on" };
                    Change::Set(vec![word.to_owned()])
                }
                (_, Some(value)) => Change::Set(vec![value]),
                (_, None) => Change::Opaque,
            };
            self.settings.push(SettingChange {
                name: format!("{prefix}{}", option.defname),
                change,
                scope,
                by: By::Statement,
            });
        }
    }

    fn setting(&mut self, name: String, change: Change, scope: Scope, by: By) {
        let takes_role = matches!(name.as_str(), "role" | "session_authorization");
        if takes_role && matches!(change, Change::Set(_) | Change::Opaque) {
            let role = if let Change::Set(values) = &change {
                values.join(", ")
            } else {
                String::new()
            };
            self.other(Class::Role, "role", &role);
        } else {
            self.other(Class::Set, "setting", &name);
        }
        // `"$user"` in the path is the current role.
        if (takes_role || name == "search_path") && scope != Scope::Stored {
            self.changes_search_path = true;
        }
        self.settings.push(SettingChange {
            name,
            change,
            scope,
            by,
        });
    }
}

pub(super) fn is_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn location_of(node: &Node) -> Option<usize> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => usize::try_from(constant.location).ok(),
        _ => None,
    }
}

/// A constant as the text that the server makes of it.
fn literal(node: &Node) -> Option<String> {
    use p::a_const::Val;
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(value)) => Some(value.sval.clone()),
            Some(Val::Ival(value)) => Some(value.ival.to_string()),
            Some(Val::Fval(value)) => Some(value.fval.clone()),
            Some(Val::Boolval(value)) => Some(value.boolval.to_string()),
            Some(Val::Bsval(_)) | None => None,
        },
        _ => None,
    }
}
