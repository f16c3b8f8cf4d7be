//! A database that is killed while it is being written to and started again from its file.
//!
//! It is a process of its own, so that it really dies in the midst of what it is doing. Which side of a write it dies
//! on is left to chance: what it had acknowledged is there afterwards, and anything else is there as a whole or not at
//! all.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdfast_app::ports::{BookingStore, Claim, Replaced, StoreError};
use holdfast_app::stored::{StoredBooking, claim, replace};
use holdfast_aws::AwsHooks;
use holdfast_domain::Patience;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::embedded::{bookings_through, clients_of, create_tables};
use super::fixtures::{cancelled, claimed, confirmed};
use super::lossy_proxy::message;

/// What the process says when it listens, before the address.
const LISTENING: &str = "a database listens at ";
/// How often it is killed. Each time a little later.
const KILLS: u64 = 8;
const A_LITTLE: Duration = Duration::from_micros(400);

/// The process, which ends with the test, however that ends: it ends when its input does.
struct Killable {
    child: Child,
    address: SocketAddr,
}

impl Killable {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contract::killed_database::serves_a_database_until_its_input_ends"])
            .args(["--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{}", file.display()).unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = said.find_map(|line| Some(line.split_once(LISTENING)?.1.parse().unwrap()));
        Self { child, address: address.unwrap() }
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "it is the process that the other test kills"]
fn serves_a_database_until_its_input_ends() {
    let mut file = String::new();
    std::io::stdin().read_line(&mut file).unwrap();
    if file.is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let path = file.trim().to_owned();
    runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{LISTENING}{}", listener.local_addr().unwrap());
        dynoxide::server::serve_on(listener, dynoxide::Database::new(&path).unwrap()).await;
    });
    std::io::stdin().read_line(&mut file).unwrap();
}

/// Passes one connection on, and tells when a request was.
async fn telling_proxy(target: SocketAddr) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, passed) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
    let told = passed.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let Ok(mut server) = TcpStream::connect(target).await else { continue };
            let Some(request) = message(&mut client).await else { continue };
            server.write_all(&request).await.unwrap();
            told.notify_one();
            if let Some(answer) = message(&mut server).await {
                client.write_all(&answer).await.ok();
            }
        }
    });
    (address, passed)
}

fn exclusive(key: &str) -> StoredBooking {
    StoredBooking { exclusive_slots: true, ..claimed(key, Patience::Background) }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Makes a write of the database at `file` and kills it `pause` after it got the request. Whether it was acknowledged.
async fn interrupted<T>(
    file: &Path,
    pause: Duration,
    write: impl AsyncFnOnce(holdfast_aws::DynamoBookingStore) -> Result<T, StoreError>,
) -> Option<T> {
    let database = Killable::start(file);
    let (address, passed) = telling_proxy(database.address).await;
    let store = bookings_through(&clients_of(address, &AwsHooks::default()).dynamodb);
    let kill = async {
        passed.notified().await;
        tokio::time::sleep(pause).await;
        drop(database);
    };
    let (written, ()) = tokio::join!(write(store), kill);
    match written {
        Ok(told) => Some(told),
        Err(StoreError::Unavailable(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_database_and_the_rest_is_whole_or_not_there() {
    let name = format!("killed-database-{}", std::process::id());
    let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    std::fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("tables.sqlite");
    let through =
        |database: &Killable| bookings_through(&clients_of(database.address, &AwsHooks::default()).dynamodb);
    let database = Killable::start(&file);
    create_tables(&clients_of(database.address, &AwsHooks::default()).dynamodb).await;
    drop(database);
    for number in 0..KILLS {
        let pause = A_LITTLE * u32::try_from(number).unwrap();
        let first = exclusive(&format!("key-{number}"));
        let told = interrupted(&file, pause, async |store| claim(&store, &first).await).await;
        let database = Killable::start(&file);
        let store = through(&database);
        let found = store.read(&first.booking.id).await.unwrap();
        assert!(found.is_none() || found.as_ref() == Some(&first));
        assert!(found.is_some() || told.is_none(), "{told:?} was forgotten");
        // The slot went with it, or stayed with it.
        let rival = claim(&store, &exclusive(&format!("rival-{number}"))).await.unwrap();
        assert_eq!(rival == Claim::SlotTaken, found.is_some(), "{rival:?}");
        if rival == Claim::Claimed {
            let rival = exclusive(&format!("rival-{number}"));
            let settled = confirmed(&rival);
            assert_eq!(replace(&store, &rival, &settled).await.unwrap(), Replaced::Done);
            assert_eq!(replace(&store, &settled, &cancelled(&settled)).await.unwrap(), Replaced::Done);
        }
        // Whoever repeats it hears what is.
        let again = claim(&store, &first).await.unwrap();
        let expected = found.map_or(Claim::Claimed, |found| Claim::Taken(Box::new(found)));
        assert_eq!(again, expected);
        let settled = confirmed(&first);
        assert_eq!(replace(&store, &first, &settled).await.unwrap(), Replaced::Done);
        drop(database);

        let withdrawn = cancelled(&settled);
        let told = interrupted(&file, pause, async |store| replace(&store, &settled, &withdrawn).await).await;
        let database = Killable::start(&file);
        let store = through(&database);
        let found = store.read(&first.booking.id).await.unwrap().unwrap();
        assert!(found == settled || found == withdrawn);
        assert!(found == withdrawn || told.is_none(), "{told:?} was forgotten");
        if found == settled {
            assert_eq!(replace(&store, &settled, &withdrawn).await.unwrap(), Replaced::Done);
        }
        // And the slot is free, for the next round.
    }
}
