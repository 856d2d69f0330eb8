//! Where a broker is and who to be there, from `amqp://user:password@host:port/vhost`.

use std::fmt;

const DEFAULT_PORT: u16 = 5672;

/// A broker to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// Name or address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: String,
    /// The virtual host.
    pub vhost: String,
}

impl Uri {
    /// Reads a URI. Parts that are left out are `guest`, `guest`, port 5672 and the virtual host `/`; user, password
    /// and virtual host may be percent-encoded.
    ///
    /// # Errors
    /// What is wrong, in words for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("amqps://") {
            return Err("TLS is not supported; use amqp://".into());
        }
        let rest = text.strip_prefix("amqp://").ok_or("a broker's URI begins with amqp://")?;
        if rest.contains(['?', '#']) {
            return Err("options after '?' or '#' are not supported".into());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('/') {
            return Err("write a '/' in the name of a virtual host as %2f".into());
        }
        let (login, address) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, "guest"));
        let (host, port) = split_address(address)?;
        let vhost = if path.is_empty() { "/".to_owned() } else { percent_decoded(path)? };
        Ok(Self { host, port, user: percent_decoded(user)?, password: percent_decoded(password)?, vhost })
    }

    /// Host and port, as one writes them.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Without the password, and without what is as usual.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "amqp://{}", self.address())?;
        if self.vhost == "/" { Ok(()) } else { write!(f, "/{}", self.vhost.replace('/', "%2f")) }
    }
}

fn split_address(address: &str) -> Result<(String, u16), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the '[' of the address is not closed")?;
            match after.strip_prefix(':') {
                None if !after.is_empty() => return Err("after the ']' comes ':' and the port".into()),
                port => (host, port),
            }
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("'{port}' is no port: it is a number from 1 to 65535")),
        },
    };
    Ok((host.to_owned(), port))
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let octet = digits
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            octets.push(octet.ok_or_else(|| format!("after '%' come two hexadecimal digits: '{text}'"))?);
            rest = &after[2..];
        } else {
            octets.push(first);
        }
    }
    String::from_utf8(octets).map_err(|_| format!("'{text}' is not UTF-8 when it is decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, u16, String, String, String) {
        let uri = Uri::parse(text).unwrap();
        (uri.host, uri.port, uri.user, uri.password, uri.vhost)
    }

    fn expected(
        host: &str,
        port: u16,
        user: &str,
        password: &str,
        vhost: &str,
    ) -> (String, u16, String, String, String) {
        (host.into(), port, user.into(), password.into(), vhost.into())
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        for text in ["amqp://localhost", "amqp://localhost/", "amqp://guest:guest@localhost:5672/%2f"] {
            assert_eq!(parsed(text), expected("localhost", 5672, "guest", "guest", "/"));
        }
    }

    #[test]
    fn every_part_can_be_given() {
        let all = "amqp://a%40b:p%3Aq@[::1]:5673/x%2Fy";
        assert_eq!(parsed(all), expected("::1", 5673, "a@b", "p:q", "x/y"));
        assert_eq!(parsed("amqp://u:p:q@h"), expected("h", 5672, "u", "p:q", "/"));
        assert_eq!(Uri::parse(all).unwrap().to_string(), "amqp://[::1]:5673/x%2fy");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("localhost:5672", "amqp://"),
            ("amqps://localhost", "TLS"),
            ("amqp://", "host"),
            ("amqp://h:0", "no port"),
            ("amqp://h:65536", "no port"),
            ("amqp://h:", "no port"),
            ("amqp://[::1", "not closed"),
            ("amqp://[::1]5672", "']'"),
            ("amqp://h/a/b", "%2f"),
            ("amqp://h/a?heartbeat=1", "'?'"),
            ("amqp://h/%2", "two hexadecimal"),
            ("amqp://h/%+f", "two hexadecimal"),
            ("amqp://h/%ff", "UTF-8"),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
