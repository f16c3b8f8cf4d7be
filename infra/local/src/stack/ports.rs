//! The four ports of a stack, all on loopback. Taken first, so that a taken one is known before anything
//! is installed or built.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use super::error::StackError;
use super::options::Options;

/// All ports, taken.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) api: Port,
    pub(super) simulator: Port,
    pub(super) inbox: Port,
    pub(super) aws: Port,
}

/// One taken port.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) listener: TcpListener,
    number: u16,
}

impl Port {
    /// The base URL, without a trailing slash.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.number)
    }

    /// Gives the port up for another process to listen on.
    pub(super) fn release(self) -> u16 {
        self.number
    }
}

impl Ports {
    pub(super) async fn take(options: &Options) -> Result<Self, StackError> {
        let api = ("the API", "--api-port", "HOLDFAST_API_PORT");
        let simulator = ("the provider simulator", "--simulator-port", "HOLDFAST_SIMULATOR_PORT");
        let inbox = ("the webhook inbox", "--inbox-port", "HOLDFAST_INBOX_PORT");
        let aws = ("the AWS emulator", "--aws-port", "HOLDFAST_AWS_PORT");
        Ok(Self {
            api: take(options.api_port, api).await?,
            simulator: take(options.simulator_port, simulator).await?,
            inbox: take(options.inbox_port, inbox).await?,
            aws: take(options.aws_port, aws).await?,
        })
    }
}

/// What a port is for, and the flag and the variable that choose it.
type Purpose = (&'static str, &'static str, &'static str);

async fn take(port: u16, (purpose, flag, variable): Purpose) -> Result<Port, StackError> {
    let listening = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => listener.local_addr().map(|address| Port { listener, number: address.port() }),
        Err(error) => Err(error),
    };
    listening.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => StackError::PortTaken { port, purpose, flag, variable },
        _ => StackError::Listen { port, purpose, source },
    })
}
