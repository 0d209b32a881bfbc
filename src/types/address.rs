//! `host:port`, as people type it and as the membership stores it.

use std::{fmt, str::FromStr};

use super::limits;

/// Text that is not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an address: use HOST:PORT, such as 192.168.1.10:7400 or [::1]:7400", .0.escape_debug())]
pub struct InvalidAddress(pub String);

/// An address to dial: a host name or IP address, and a port from 1. An IPv6 address is in brackets.
///
/// ```
/// use quorate::types::Address;
///
/// let address: Address = "[::1]:7400".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", "7400"));
/// assert!("127.0.0.1".parse::<Address>().is_err(), "without a port");
/// # Ok::<(), quorate::types::InvalidAddress>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        let (host, _) = self.0.rsplit_once(':').unwrap_or((&self.0, ""));
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, as written.
    pub fn port(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(_, port)| port)
    }

    /// Whether it stands for every interface (0.0.0.0 or ::). A node can listen on it, but nobody can dial it.
    pub fn is_unspecified(&self) -> bool {
        self.host().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.chars().take(limits::ADDRESS_BYTES).collect());
        if text.len() > limits::ADDRESS_BYTES {
            return Err(invalid());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_fits = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        let port_fits = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        if host_fits && port_fits { Ok(Self(text.to_owned())) } else { Err(invalid()) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:1", "node-1.example.org:7400", "[::1]:7400"] {
            assert_eq!(good.parse::<Address>().map(|address| address.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "a", ":1", "a:", "a:0", "a:65536", "a:+1", "::1:7", "http://a:1", "a b:1", "[::g]:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} is no address");
        }
        assert!("0.0.0.0:1".parse::<Address>().is_ok_and(|address| address.is_unspecified()));
    }
}
