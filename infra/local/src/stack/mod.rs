//! `cargo local`: starts everything in order, says where it is, and ends everything it started.
//!
//! Nothing of AWS is imitated here. The emulator runs the deployment of `template.yaml`; around it stand the
//! API's fixed address, the provider simulator and the webhook inbox, all on loopback only.

mod deploy;
mod emulator;
mod error;
mod functions;
mod interrupt;
mod keys;
mod options;
mod ports;
mod progress;
mod proxy;
mod python;
mod ready;
mod seed;
mod tool;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use error::StackError;
pub use options::Options;

use crate::simulator::SimulatorConfig;
use crate::stack_file::StackFile;
use crate::{inbox, simulator};
use emulator::Emulator;
use interrupt::Interrupt;
use options::Layout;
use ports::Ports;
use progress::{Progress, say};

/// Longer than API Gateway's 30 s, for calls to the API; the others answer at once.
const CALL_LIMIT: Duration = Duration::from_secs(40);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Starts the stack, runs it until it is told to stop or cannot go on, and ends what it started.
///
/// Exit code 0 after an orderly end, 1 when something failed, 130 when it was stopped while starting.
pub async fn main(options: Options) -> ExitCode {
    let mut stack = Stack::new(options);
    let result = run(&mut stack).await;
    let stopped = stack.stop().await;
    match result.and_then(|code| stopped.map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            // Without a reader of the messages, the exit code still tells.
            writeln!(io::stderr().lock(), "\nThe local stack does not run: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// How a program ends by convention when Ctrl-C interrupts its work.
const INTERRUPTED: u8 = 130;

async fn run(stack: &mut Stack) -> Result<ExitCode, StackError> {
    let mut interrupt = Interrupt::new(stack.options.until_stdin_closes)
        .map_err(StackError::file("could not watch", "signals"))?;
    tokio::select! {
        started = stack.start() => started?,
        () = interrupt.received() => {
            say("\nStopping.");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    tokio::select! {
        error = stack.failed() => Err(error),
        () = interrupt.received() => {
            say("\nStopping.");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a running stack consists of.
#[derive(Debug)]
struct Stack {
    options: Options,
    layout: Layout,
    progress: Progress,
    /// Held while this stack runs, so that no other one uses its state folder.
    lock: Option<File>,
    emulator: Option<Emulator>,
    servers: JoinSet<io::Result<()>>,
}

impl Stack {
    fn new(options: Options) -> Self {
        let layout = Layout::new(&options);
        Self {
            options,
            layout,
            progress: Progress::new(),
            lock: None,
            emulator: None,
            servers: JoinSet::new(),
        }
    }

    async fn start(&mut self) -> Result<(), StackError> {
        self.take_state_folder()?;
        let ports = Ports::take(&self.options).await?;
        let interpreter = python::prepare(&self.options, &self.layout, &self.progress).await?;
        let binaries = functions::prepare(&self.options, &self.layout, &self.progress).await?;

        self.progress.step("Starting the AWS emulator");
        let client = client()?;
        let (api_url, simulator_url, inbox_url) = (ports.api.url(), ports.simulator.url(), ports.inbox.url());
        let functions_url = self.options.functions_aws_url.as_deref();
        let port = ports.aws.release();
        let emulator = Emulator::start(&interpreter, &self.layout, port, functions_url, &client).await?;
        let aws_endpoint_url = self.emulator.insert(emulator).endpoint_url.clone();

        self.progress.step("Deploying template.yaml");
        let admin_key = keys::admin_key()?;
        let deployed =
            deploy::deploy(&interpreter, &self.layout, &aws_endpoint_url, &binaries, &admin_key).await?;
        let api_id = deployed.outputs.get("ApiId").ok_or_else(|| StackError::Tool {
            what: "reading the deployment",
            detail: "the template has no output ApiId".to_owned(),
            advice: "Give template.yaml back its output ApiId.".to_owned(),
        })?;

        self.progress.step(&format!(
            "Setting up the demo data ({} of {} packages were new)",
            deployed.packages_made,
            binaries.len()
        ));
        let providers = seed::providers()?;
        let callbacks_to = SimulatorConfig { api_url: Some(api_url.clone()), ..SimulatorConfig::default() };
        self.serve(ports.api.listener, proxy::router(&aws_endpoint_url, api_id)?);
        self.serve(ports.simulator.listener, simulator::router(callbacks_to));
        self.serve(ports.inbox.listener, inbox::router());
        let seeder = seed::Seeder {
            client: &client,
            api_url: &api_url,
            simulator_url: &simulator_url,
            inbox_url: &inbox_url,
            admin_key: &admin_key,
            logs: self.layout.logs(),
        };
        let keys = seeder.seed(&providers).await?;
        let file = StackFile {
            api_url,
            admin_key,
            consumer_key: keys.consumer,
            other_consumer_key: keys.other_consumer,
            provider_keys: keys.providers,
            providers: providers.iter().map(|provider| provider.id.to_owned()).collect(),
            provider_simulator_url: simulator_url,
            webhook_inbox_url: inbox_url,
            aws_endpoint_url,
            aws_region: emulator::REGION.to_owned(),
            aws_access_key_id: emulator::ROOT_ACCESS_KEY_ID.to_owned(),
            aws_secret_access_key: emulator::ROOT_SECRET_ACCESS_KEY.to_owned(),
            resources: deployed.outputs,
        };
        let path = self.layout.stack_file();
        file.write(&path).map_err(StackError::file("could not write", &path))?;
        self.progress.step("Ready");
        say(&ready::block(&file, &self.layout));
        Ok(())
    }

    /// Makes the state folder this stack's own and empties it of what an earlier one left.
    fn take_state_folder(&mut self) -> Result<(), StackError> {
        for folder in [&self.layout.shared, &self.layout.state, &self.layout.logs()] {
            fs::create_dir_all(folder).map_err(StackError::file("could not make", folder))?;
        }
        let path = self.layout.state.join("lock");
        let lock = File::create(&path).map_err(StackError::file("could not open", &path))?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(StackError::AlreadyRunning { folder: self.layout.state.clone() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StackError::file("could not lock", &path)(error));
            }
        }
        let functions = self.layout.logs().join("functions");
        for stale in [self.layout.stack_file(), functions] {
            remove(&stale).map_err(StackError::file("could not remove", &stale))?;
        }
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener, router: Router) {
        // Answers are small; holding them back for more to send would only slow them.
        let listener = listener.tap_io(|connection| {
            connection.set_nodelay(true).ok();
        });
        self.servers.spawn(axum::serve(listener, router).into_future());
    }

    /// Waits until something that must run has ended.
    async fn failed(&mut self) -> StackError {
        let Some(emulator) = &mut self.emulator else { return std::future::pending().await };
        emulator.ended().await
    }

    /// Ends everything, whether or not all of it was started.
    async fn stop(&mut self) -> Result<(), StackError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let file = self.layout.stack_file();
        let removed = remove(&file).map_err(StackError::file("could not remove", &file));
        self.servers.shutdown().await;
        if let Some(emulator) = self.emulator.take() {
            emulator.stop().await.map_err(StackError::file("could not end", "the AWS emulator"))?;
        }
        removed
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn client() -> Result<reqwest::Client, StackError> {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(CALL_LIMIT)
        .build()
        .map_err(StackError::Client)
}
