//! Configuration: what the operator wrote, and the values the program uses.
//!
//! `keys` is the table of all keys, `file` the shape as written, `snapshot` the shape as used, and
//! `resolve` the way from one to the other. It decides nothing about peers.

mod keys;
mod reference;

mod file;
mod problem;
mod resolve;
pub(crate) mod schema;
mod snapshot;

mod console_url;
mod mask_key;
mod new_target;
mod secret;
mod state;
mod values;
mod webhook;

pub use console_url::{ConsoleUrl, ConsoleUrlError};
pub use mask_key::{MaskKey, MaskKeyError, TargetMaskKey};
pub use new_target::{
    NewTarget, TargetOption, TargetValue, starter_groups, starter_rule, target_options,
};
pub use problem::Problem;
pub use reference::{default_file, manual_page, reference};
pub use resolve::{
    Draft, Environment, Examined, NamedFile, NamedPlace, WrittenTarget, admin_socket, examine,
    exports, load, named_files, policy_path, recordings, reload, target_path, written_targets,
};
pub use secret::{Secret, SecretError, SecretReference, SecretReferenceError, SecretSources};
pub use snapshot::{
    ApprovalSettings, ClientAuthentication, ConsoleListener, ConsoleLogin, Destination, Limits,
    ListenerProof, ListenerSettings, Loaded, LogFormat, LogSettings, SessionSettings, Snapshot,
    Startup, Targets,
};
pub use state::{Audience, StateDirectory, StateError, Writing};
pub use webhook::{WebhookError, WebhookForm, WebhookSettings};
