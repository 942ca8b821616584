//! Ranges of IP addresses.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A range of addresses, `base/prefix_len`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    base: IpAddr,
    prefix_len: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CidrError {
    /// Neither an address nor `ADDRESS/LENGTH`.
    Malformed,
    /// A length beyond the address, or bits set after it.
    Length,
    /// An IPv6 spelling of an IPv4 network: it would never match, addresses are compared as IPv4.
    Embedded,
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a network is written ADDRESS or ADDRESS/LENGTH",
            Self::Length => "the network's length does not fit its address",
            Self::Embedded => "write an IPv4 network as IPv4",
        })
    }
}

impl core::error::Error for CidrError {}

impl Cidr {
    /// A range of IPv4 addresses.
    pub const fn v4(base: [u8; 4], prefix_len: u8) -> Self {
        let [a, b, c, d] = base;
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix_len }
    }

    /// A range of IPv6 addresses.
    pub const fn v6(base: [u16; 8], prefix_len: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = base;
        Self { base: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), prefix_len }
    }

    /// Whether the address lies in the range; an address of the other family never does.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (base, width) = bits(self.base);
        let (address, other_width) = bits(address);
        let shift = width - u32::from(self.prefix_len);
        width == other_width && (base ^ address).checked_shr(shift).unwrap_or(0) == 0
    }
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), Ipv4Addr::BITS),
        IpAddr::V6(address) => (address.to_bits(), Ipv6Addr::BITS),
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (base, prefix_len) = text.split_once('/').map_or((text, None), |(base, len)| (base, Some(len)));
        let base: IpAddr = base.parse().map_err(|_| CidrError::Malformed)?;
        let (number, width) = bits(base);
        let prefix_len = match prefix_len {
            None => width,
            Some(len) if len.bytes().all(|digit| digit.is_ascii_digit()) => {
                len.parse().map_err(|_| CidrError::Malformed)?
            }
            Some(_) => return Err(CidrError::Malformed),
        };
        if prefix_len > width || number.trailing_zeros().min(width) < width - prefix_len {
            return Err(CidrError::Length);
        }
        if prefix_len >= 96 && reached(base) != base {
            return Err(CidrError::Embedded);
        }
        Ok(Self { base, prefix_len: prefix_len as u8 })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

/// The address at which a connection to `address` ends up: the IPv4 one inside an IPv4-mapped
/// address (RFC 4291) or a translated one with the well-known prefix (NAT64, RFC 6052).
pub fn reached(address: IpAddr) -> IpAddr {
    const NAT64: Cidr = Cidr::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
    match address.to_canonical() {
        IpAddr::V6(inner) if NAT64.contains(address) => IpAddr::V4(Ipv4Addr::from_bits(inner.to_bits() as u32)),
        canonical => canonical,
    }
}
