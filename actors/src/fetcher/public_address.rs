//! Resolves the host of `fetcher.url`, and allowed ones, to addresses that may be connected to.
//!
//! Guarantees:
//! * A name is resolved once per connection, and only the addresses that were checked are connected
//!   to, so an answer that changes in between has no effect.
//! * A name with an address that is not public is refused: loopback, private (RFC 1918, RFC 4193),
//!   shared (RFC 6598), link-local with the cloud's metadata service, multicast, reserved, and
//!   IPv6 addresses that contain such an IPv4 address.
//!
//! Does not apply to a URL whose host is an address or `localhost`: the pipeline file says then
//! where it leads. Does not apply behind a proxy, which resolves the name itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name that leads to an address that is not public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} has the address {address}, which is not public")]
pub(super) struct NotPublic {
    /// The name.
    pub(super) host: String,
    /// One of its addresses.
    pub(super) address: IpAddr,
}

/// The resolver of the system.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A resolver that refuses names if an address of them is not public.
pub(super) struct PublicOnly {
    /// Others, such as a proxy, are not in the pipeline file.
    hosts: Vec<String>,
    resolver: Arc<dyn Resolve>,
}

impl PublicOnly {
    /// Checks the host of `url`.
    pub(super) fn new(url: &Url, resolver: Arc<dyn Resolve>) -> Self {
        Self { hosts: vec![url.host_str().unwrap_or_default().to_owned()], resolver }
    }

    /// Checks further hosts, each `host` or `host:port`.
    pub(super) fn and(mut self, hosts: &[String]) -> Self {
        let name = |host: &String| Url::parse(&format!("http://{host}/")).ok()?.host_str().map(str::to_owned);
        self.hosts.extend(hosts.iter().filter_map(name));
        self
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let named = self.hosts.iter().find(|host| name.as_str().eq_ignore_ascii_case(host));
        let (checked, host) = (named.is_some_and(|host| !is_localhost(host)), named.cloned().unwrap_or_default());
        let addresses = self.resolver.resolve(name);
        Box::pin(async move {
            let addresses: Vec<_> = addresses.await?.collect();
            match addresses.iter().map(|at| at.ip()).find(|&address| checked && !is_public(address)) {
                Some(address) => Err(NotPublic { host, address }.into()),
                None => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether a name is that of this machine (RFC 6761).
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether an address is on the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // This network, shared by providers (RFC 6598), protocols, benchmarks, reserved.
        [0, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18..=19, ..] | [240..=255, ..] => true,
        // The metadata service of Azure; those of other clouds are link-local.
        [168, 63, 129, 16] => true,
        _ => false,
    };
    let is_local = address.is_loopback() || address.is_private() || address.is_link_local();
    !(is_special || is_local || address.is_multicast() || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match segments {
        // IPv4-mapped, IPv4-compatible with the loopback and unspecified addresses, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // Teredo and protocols, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Everything that is assigned to the internet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for text in ["93.184.216.34", "8.8.8.8", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.64.0.1",
            "100.100.100.200",
            "0.0.0.0",
            "192.0.0.192",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    /// Gives the answers in turn, and the last one again.
    struct Answers(Mutex<Vec<&'static [&'static str]>>);

    impl Resolve for Answers {
        fn resolve(&self, _: Name) -> Resolving {
            let mut answers = self.0.lock();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
            let addresses = answer.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0));
            Box::pin(std::future::ready(Ok(Box::new(addresses) as Addrs)))
        }
    }

    async fn resolved(resolver: &PublicOnly, name: &str) -> Result<usize, NotPublic> {
        let addresses = resolver.resolve(name.parse().unwrap()).await;
        addresses.map(Iterator::count).map_err(|error| error.downcast_ref::<NotPublic>().unwrap().clone())
    }

    #[tokio::test]
    async fn a_name_that_turns_to_a_private_address_is_refused() {
        let answers = Answers(Mutex::new(vec![&["93.184.216.34"], &["93.184.216.34", "10.0.0.7"], &["::ffff:127.0.0.1"]]));
        let resolver =
            PublicOnly::new(&Url::parse("https://API.example/").unwrap(), Arc::new(answers)).and(&["Files.example:8443".to_owned()]);
        let refused = |address: &str| Err(NotPublic { host: "api.example".into(), address: address.parse().unwrap() });
        assert_eq!(resolved(&resolver, "api.example").await, Ok(1));
        assert_eq!(resolved(&resolver, "api.example").await, refused("10.0.0.7"));
        assert_eq!(resolved(&resolver, "api.example").await, refused("::ffff:127.0.0.1"));
        let of_files = Err(NotPublic { host: "files.example".into(), address: "::ffff:127.0.0.1".parse().unwrap() });
        assert_eq!(resolved(&resolver, "files.example").await, of_files);
        assert_eq!(resolved(&resolver, "proxy.example").await, Ok(1), "a proxy is not named by the URL");
    }

    #[tokio::test]
    async fn localhost_may_be_this_machine() {
        for host in ["localhost", "api.localhost"] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            let resolver = PublicOnly::new(&url, Arc::new(Answers(Mutex::new(vec![&["127.0.0.1"]]))));
            assert_eq!(resolved(&resolver, host).await, Ok(1));
        }
    }
}
