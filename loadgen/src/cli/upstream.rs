//! `upstream`: the built-in server, on its own.

use std::fs;
use std::net::ToSocketAddrs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use runtime::ListenAddress;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use zeroize::Zeroizing;

use super::{Failure, ProcessEnvironment, output};
use crate::upstream::{Secret, Settings, Table, server_tls, start};

#[derive(Debug, Args)]
pub(super) struct UpstreamOptions {
    /// Where to listen: ADDRESS:PORT (port 0: any that is free), or the path of a Unix socket
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    listen: ListenAddress,
    /// Threads that answer, each on a CPU of its own
    #[arg(long, value_name = "N", default_value = "1")]
    shards: NonZeroUsize,
    /// CPUs that they may use, such as 2,3
    #[arg(long, value_name = "CPU,...", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Rows of the table `accounts` (id, name, email, card, balance, filler)
    #[arg(long, value_name = "N", default_value = "1000")]
    rows: u32,
    /// Bytes of each row's filler
    #[arg(long, value_name = "B", default_value = "100")]
    row_bytes: u32,
    /// Answer that much later, such as 500us
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    delay: Duration,
    /// The password that every user needs, by SCRAM-SHA-256; without it everybody is trusted
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Offer TLS with this certificate (PEM, leaf first)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// End with the process that started it
    #[arg(long, hide = true)]
    with_parent: bool,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

fn listen(text: &str) -> Result<ListenAddress, std::io::Error> {
    if text.starts_with('/') {
        return Ok(ListenAddress::Unix(text.into()));
    }
    let mut found = text.to_socket_addrs()?;
    let address = found.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    Ok(ListenAddress::Tcp(address))
}

impl UpstreamOptions {
    pub(super) fn run(self, _process: &ProcessEnvironment) -> Result<ExitCode, Failure> {
        if self.with_parent {
            set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(|error| Failure::Parent(error.into()))?;
        }
        raise_descriptor_limit();
        self.choose_cpus()?;
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(chain), Some(key)) => Some(server_tls(&read(chain)?, &read(key)?)?),
            _ => None,
        };
        let running = start(Settings {
            listen: self.listen.clone(),
            shards: self.shards,
            table: Table::new(self.rows, self.row_bytes),
            delay: self.delay,
            secret: self.secret()?,
            tls,
        })?;
        output::print(&format!("listening on {}\n", running.address))?;
        running.shards.join()?;
        Ok(ExitCode::SUCCESS)
    }

    fn secret(&self) -> Result<Option<Arc<Secret>>, Failure> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let text = read(path)?;
        let password = text.trim_ascii_end();
        let secret = Secret::new(password).ok_or(Failure::Randomness)?;
        Ok(Some(Arc::new(secret)))
    }

    /// Before any thread starts: each takes one of the CPUs that the process may use.
    fn choose_cpus(&self) -> Result<(), Failure> {
        if self.cpus.is_empty() {
            return Ok(());
        }
        let mut set = CpuSet::new();
        for cpu in &self.cpus {
            if *cpu >= CpuSet::MAX_CPU {
                return Err(Failure::Cpus(std::io::ErrorKind::InvalidInput.into()));
            }
            set.set(*cpu);
        }
        sched_setaffinity(None, &set).map_err(|error| Failure::Cpus(error.into()))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let read = fs::read(path).map(Zeroizing::new);
    read.map_err(|source| Failure::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Each connection takes a descriptor, and the usual limit of 1024 is there for `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // With fewer, connections wait in the kernel's queue.
    let _ = setrlimit(Resource::Nofile, raised);
}
