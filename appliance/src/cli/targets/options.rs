//! The keys of a target as options: one for each line of the table of keys, and no list besides.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{TargetOption, TargetValue, target_options};

/// Who the appliance is at a target where nobody says.
const USER: &str = "user";
const USER_DEFAULT: &str = "sallyport";

/// Given before all others.
const ADDRESS: &str = "address";

/// Flags live as long as the command that they belong to.
static FLAGS: LazyLock<Vec<(String, TargetOption)>> = LazyLock::new(|| {
    let options = target_options();
    options.map(|option| (option.flag(), option)).collect()
});

/// What was given of a target's keys.
#[derive(Debug)]
pub(super) struct TargetKeys(Vec<TargetValue>);

impl TargetKeys {
    /// With `password` set to where a secret was put.
    pub(super) fn with_password(mut self, reference: String) -> Vec<TargetValue> {
        let option = target_options().find(|option| option.key() == "password");
        self.0.extend(option.map(|option| TargetValue {
            option,
            values: vec![reference],
        }));
        self.0
    }

    pub(super) fn into_values(self) -> Vec<TargetValue> {
        self.0
    }
}

fn argument(flag: &'static str, option: TargetOption) -> Arg {
    let argument = Arg::new(flag)
        .long(flag)
        .help(option.help())
        .value_name("VALUE")
        .action(ArgAction::Set);
    let argument = match option.choices() {
        [] => argument,
        choices => argument.value_parser(choices.to_vec()),
    };
    let argument = if option.is_list() {
        let repeated = argument.action(ArgAction::Append);
        repeated.value_delimiter(',')
    } else {
        argument
    };
    match option.key() {
        ADDRESS => argument.required(true).value_name("HOST:PORT"),
        USER => {
            let help = format!("{} [default: {USER_DEFAULT}]", option.help());
            argument.help(help)
        }
        _ => argument,
    }
}

impl Args for TargetKeys {
    fn augment_args(command: Command) -> Command {
        let arguments = FLAGS.iter().map(|(flag, option)| argument(flag, *option));
        command.args(arguments)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TargetKeys {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().filter_map(|(flag, option)| {
            let given = matches.get_many::<String>(flag);
            let values: Vec<String> = match (given, option.key()) {
                (Some(given), _) => given.cloned().collect(),
                (None, USER) => vec![USER_DEFAULT.to_owned()],
                (None, _) => return None,
            };
            Some(TargetValue {
                option: *option,
                values,
            })
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
