//! `sallyport schema`: JSON Schemas of the files, for editors and pipelines.

use clap::{Args, ValueEnum};

use super::{Failure, print};
use crate::config::schema;

#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of which files
    #[arg(value_enum)]
    of: Files,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Files {
    Policy,
    Configuration,
}

impl Schema {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let schema = match self.of {
            Files::Policy => schema::policy(),
            Files::Configuration => schema::configuration(),
        };
        print(&format!("{schema:#}\n"))?;
        Ok(())
    }
}
