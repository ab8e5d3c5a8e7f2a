//! The policy in force as names and shapes: what there is, without what it matches in detail.

use crate::Policy;
use crate::class::Class;
use crate::compile::Action;

/// All of a policy, in the order of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub rules: Vec<OutlinedRule>,
    pub masks: Vec<OutlinedItem>,
    pub budgets: Vec<OutlinedItem>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlinedRule {
    pub name: String,
    pub action: Action,
    pub message: Option<String>,
    /// It is judged and decides nothing.
    pub shadow: bool,
    pub about: About,
    /// Names of the classes that it is about.
    pub classes: Vec<&'static str>,
    /// Of `tables`, `columns` and `functions`, those that narrow it.
    pub narrowed_by: Vec<&'static str>,
}

/// A mask or a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlinedItem {
    pub name: String,
    pub about: About,
}

/// Whom and where something is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `None`: everybody.
    pub groups: Option<Vec<String>>,
    pub except_groups: Vec<String>,
    /// `None`: everywhere.
    pub targets: Option<Vec<String>>,
    /// It asks for a network, a time, an issuer, a subject or a delegation besides.
    pub is_conditional: bool,
}

impl Policy {
    /// What there is.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let rules = self.rules.iter().map(|rule| OutlinedRule {
            name: rule.name.clone(),
            action: rule.action.clone(),
            message: rule.message.clone(),
            shadow: rule.shadow,
            about: rule.scope.about(),
            classes: rule.classes.iter().map(Class::name).collect(),
            narrowed_by: [
                ("tables", rule.tables.is_some()),
                ("columns", rule.columns.is_some()),
                ("functions", rule.functions.is_some()),
            ]
            .into_iter()
            .filter_map(|(name, narrows)| narrows.then_some(name))
            .collect(),
        });
        let masks = self.masks.iter().map(|mask| OutlinedItem {
            name: mask.rule.name.clone(),
            about: mask.scope.about(),
        });
        let budgets = self.budgets.iter().map(|budget| OutlinedItem {
            name: budget.rule.name.clone(),
            about: budget.scope.about(),
        });
        Outline {
            rules: rules.collect(),
            masks: masks.collect(),
            budgets: budgets.collect(),
        }
    }
}
