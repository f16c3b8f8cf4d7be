//! Which hosts and addresses may be reached.
//!
//! Providers and consumers choose the URLs that Holdfast calls, so these must not lead to the inside of
//! the network that it runs in. Names are checked when they are resolved, for the very addresses that are
//! then connected to, so that a name that changes its address in between gains nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use holdfast_http::{BoxError, Resolver, system_names};
use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 addresses that are not on the public internet (IANA IPv4 Special-Purpose Address Registry).
const REFUSED_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),       // "This network", which many systems take for the local host.
    v4(10, 0, 0, 0, 8),      // Private.
    v4(100, 64, 0, 0, 10),   // Carrier-grade NAT.
    v4(127, 0, 0, 0, 8),     // Loopback.
    v4(169, 254, 0, 0, 16),  // Link-local, with the metadata services of AWS at 169.254.169.254.
    v4(172, 16, 0, 0, 12),   // Private.
    v4(192, 0, 0, 0, 24),    // Protocol assignments.
    v4(192, 0, 2, 0, 24),    // Documentation.
    v4(192, 88, 99, 0, 24),  // 6to4 relays.
    v4(192, 168, 0, 0, 16),  // Private.
    v4(198, 18, 0, 0, 15),   // Benchmarking.
    v4(198, 51, 100, 0, 24), // Documentation.
    v4(203, 0, 113, 0, 24),  // Documentation.
    v4(224, 0, 0, 0, 4),     // Multicast.
    v4(240, 0, 0, 0, 4),     // Reserved, and broadcast.
];

/// The only IPv6 addresses that are assigned on the public internet. Everything outside is refused:
/// unspecified, loopback, IPv4-mapped, NAT64, unique local (with `fd00:ec2::254`), link-local, multicast.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is refused within [`GLOBAL_V6`] (IANA IPv6 Special-Purpose Address Registry).
const REFUSED_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23), // Protocol assignments, with Teredo, which tunnels to any IPv4 address.
    v6(0x2001, 0x0db8, 0, 32), // Documentation.
    v6(0x2002, 0, 0, 16), // 6to4, which tunnels to any IPv4 address.
    v6(0x3fff, 0, 0, 20), // Documentation.
];

/// Whether an address is one on the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !REFUSED_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// Hosts that a deployment allows by name although their addresses are not public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(BTreeSet<String>);

impl AllowedHosts {
    /// Reads a comma-separated list of exact host names and IP addresses. An empty list allows none. An
    /// entry that is no host can match none, and so allows nothing.
    pub fn parse(list: &str) -> Self {
        list.split(',').collect()
    }

    fn contains(&self, host: &str) -> bool {
        self.0.contains(&normalised(host))
    }
}

impl<T: AsRef<str>> FromIterator<T> for AllowedHosts {
    fn from_iter<I: IntoIterator<Item = T>>(hosts: I) -> Self {
        let hosts = hosts.into_iter().map(|host| normalised(host.as_ref()));
        Self(hosts.filter(|host| !host.is_empty()).collect())
    }
}

/// One spelling for one host: lower case, no brackets, no final dot.
fn normalised(host: &str) -> String {
    let host = host.trim();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The target is, or resolves to, nothing but addresses that must not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target's address is not public, and the deployment does not allow it by name")]
pub(crate) struct TargetRefused;

/// Checks names as they are resolved, and literal addresses before a request is made.
#[derive(Clone)]
pub(crate) struct Targets {
    allowed: Arc<AllowedHosts>,
    names: Resolver,
}

impl fmt::Debug for Targets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Targets").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Targets {
    /// Names are those of the system.
    pub(crate) fn new(allowed: AllowedHosts) -> Self {
        Self::named(allowed, system_names())
    }

    fn named(allowed: AllowedHosts, names: Resolver) -> Self {
        Self { allowed: Arc::new(allowed), names }
    }

    /// Resolves names to addresses that may be reached, and to no others.
    pub(crate) fn resolver(&self) -> Resolver {
        let targets = self.clone();
        Arc::new(move |name| {
            let targets = targets.clone();
            Box::pin(async move { targets.resolve(name).await })
        })
    }

    async fn resolve(&self, name: String) -> Result<Vec<SocketAddr>, BoxError> {
        let addresses = (self.names)(name.clone()).await?;
        Ok(self.reachable(&name, addresses)?)
    }

    /// Refuses a host that is a literal address which must not be reached. Connecting to a literal
    /// address resolves nothing, so that this is its only check; names are left to the resolver.
    pub(crate) fn check_literal(&self, host: &str) -> Result<(), TargetRefused> {
        match normalised(host).parse::<IpAddr>() {
            Ok(address) if !is_public(address) && !self.allowed.contains(host) => Err(TargetRefused),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Of the addresses of `host`, those that may be reached.
    fn reachable(&self, host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, TargetRefused> {
        if self.allowed.contains(host) {
            return Ok(addresses);
        }
        let public: Vec<SocketAddr> =
            addresses.into_iter().filter(|address| is_public(address.ip())).collect();
        if public.is_empty() { Err(TargetRefused) } else { Ok(public) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::safe_client::{Cause, Outgoing, SafeClient};

    fn targets(allowed: &str) -> Targets {
        Targets::new(AllowedHosts::parse(allowed))
    }

    #[test]
    fn addresses_off_the_public_internet_are_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.254",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "52.95.110.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2600:1f18::1",
            "2a00:1450:4001::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn literal_addresses_are_checked_in_every_spelling() {
        let none = targets("");
        for host in ["127.0.0.1", "[::1]", "[fd00:ec2::254]", "169.254.169.254", "127.0.0.1."] {
            assert_eq!(none.check_literal(host), Err(TargetRefused), "{host}");
        }
        assert_eq!(none.check_literal("8.8.8.8"), Ok(()));
        assert_eq!(targets("127.0.0.1, ::1").check_literal("127.0.0.1"), Ok(()));
        assert_eq!(targets("127.0.0.1, ::1").check_literal("[::1]"), Ok(()));
        assert_eq!(targets("127.0.0.1").check_literal("127.0.0.2"), Err(TargetRefused));
    }

    #[test]
    fn a_name_keeps_its_public_addresses_only() {
        let public: SocketAddr = "8.8.8.8:0".parse().unwrap();
        let private: SocketAddr = "10.0.0.1:0".parse().unwrap();
        let none = targets("");
        assert_eq!(none.reachable("mixed.example", vec![private, public]), Ok(vec![public]));
        assert_eq!(none.reachable("inside.example", vec![private]), Err(TargetRefused));
        assert_eq!(none.reachable("nothing.example", vec![]), Err(TargetRefused));
    }

    #[test]
    fn allowing_goes_by_the_exact_name_alone() {
        let private: SocketAddr = "10.0.0.1:0".parse().unwrap();
        let some = targets(" Inside.Example ,10.0.0.1,");
        assert_eq!(some.reachable("inside.example.", vec![private]), Ok(vec![private]));
        // The address is allowed as a literal; a name that points to it is not.
        assert_eq!(some.reachable("rebound.example", vec![private]), Err(TargetRefused));
        assert_eq!(some.reachable("sub.inside.example", vec![private]), Err(TargetRefused));
    }

    /// A name that has other addresses every time it is asked for, the last ones for ever.
    fn rebound(answers: &[&str]) -> (Targets, Arc<AtomicUsize>) {
        let answers: Vec<SocketAddr> = answers.iter().map(|text| text.parse().unwrap()).collect();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let names: Resolver = Arc::new(move |_| {
            let nth = counted.fetch_add(1, Ordering::Relaxed);
            let answer = answers[nth.min(answers.len() - 1)];
            Box::pin(async move { Ok(vec![answer]) })
        });
        (Targets::named(AllowedHosts::default(), names), asked)
    }

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_checked_at_every_connection() {
        let resolve = async |targets: &Targets| targets.resolver()("rebound.example".to_owned()).await.ok();
        let public: SocketAddr = "8.8.8.8:0".parse().unwrap();
        let (targets, _) = rebound(&["8.8.8.8:0", "127.0.0.1:0"]);
        // What was checked is what is connected to: the addresses come from the same answer.
        assert_eq!(resolve(&targets).await, Some(vec![public]));
        assert_eq!(resolve(&targets).await, None);
    }

    #[tokio::test]
    async fn a_client_connects_to_nothing_that_a_name_turned_to_since() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://rebound.example:{}/", listener.local_addr().unwrap().port());
        let (targets, asked) = rebound(&["127.0.0.1:0"]);
        let client = SafeClient::reaching(targets).unwrap();
        let outgoing = Outgoing {
            method: http::Method::POST,
            uri: url.parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::from_static(b"secret"),
        };
        let failure = client.exchange(outgoing, Duration::from_secs(5)).await.err().unwrap();
        assert_eq!((failure.cause, failure.may_be_sent), (Cause::TargetRefused, false));
        assert_eq!(asked.load(Ordering::Relaxed), 1, "the client asks for names here and nowhere else");
        let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err(), "nothing was connected to");
    }
}
