//! `sallyport schema`: JSON Schemas of the files and the OpenAPI document, for editors and pipelines.

use clap::{Args, ValueEnum};

use super::{Failure, print};
use crate::config::schema;

#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of what
    #[arg(value_enum)]
    of: Subject,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Subject {
    /// The files in policy.d
    Policy,
    /// sallyport.toml and the files in targets.d
    Configuration,
    /// The admin API
    Openapi,
}

impl Schema {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let schema = match self.of {
            Subject::Policy => schema::policy(),
            Subject::Configuration => schema::configuration(),
            Subject::Openapi => schema::openapi(),
        };
        print(&format!("{schema:#}\n"))?;
        Ok(())
    }
}
