//! Nix systems, OCI platforms, and the tag suffixes between them.

use std::fmt;
use std::str::FromStr;

use super::layer::Machine;

/// One row of the table: a Nix system and the OCI platform it builds for.
struct Row {
    system: &'static str,
    os: &'static str,
    architecture: &'static str,
    variant: Option<&'static str>,
    /// The suffix by architecture, unique in the table.
    suffix: &'static str,
    /// What its programs are built for.
    machine: Machine,
}

const fn row(
    system: &'static str,
    architecture: &'static str,
    variant: Option<&'static str>,
    suffix: &'static str,
    machine: Machine,
) -> Row {
    Row { system, os: "linux", architecture, variant, suffix, machine }
}

const fn elf(number: u16, bits: u8, little: bool) -> Machine {
    Machine { number, wide: bits == 64, little }
}

/// Every system that can be a container platform. A system that is not here is an error.
static TABLE: [Row; 9] = [
    row("x86_64-linux", "amd64", None, "amd64", elf(62, 64, true)),
    row("aarch64-linux", "arm64", None, "arm64", elf(183, 64, true)),
    row("armv7l-linux", "arm", Some("v7"), "armv7", elf(40, 32, true)),
    row("armv6l-linux", "arm", Some("v6"), "armv6", elf(40, 32, true)),
    row("i686-linux", "386", None, "386", elf(3, 32, true)),
    row("riscv64-linux", "riscv64", None, "riscv64", elf(243, 64, true)),
    row("powerpc64le-linux", "ppc64le", None, "ppc64le", elf(21, 64, true)),
    row("s390x-linux", "s390x", None, "s390x", elf(22, 64, false)),
    row("loongarch64-linux", "loong64", None, "loong64", elf(258, 64, true)),
];

/// A Nix system that stands for a container platform, such as `x86_64-linux`.
#[derive(Clone, Copy)]
pub struct System(&'static Row);

/// An OCI platform as containerd normalises it: `arm64/v8` is `arm64`, `arm` is `arm/v7`,
/// `amd64/v1` is `amd64`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A system or platform that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// No row of the table has this system.
    #[error("`{0}` is not a system that quorate knows; known are {known}", known = known_systems())]
    System(String),
    /// No row of the table has this suffix.
    #[error("`{0}` is not an architecture that quorate knows; known are {known}", known = known_suffixes())]
    Suffix(String),
    /// Not `os/architecture` or `os/architecture/variant`.
    #[error("`{0}` is not a platform: write `os/architecture`, for example `linux/amd64`")]
    Platform(String),
}

fn known_systems() -> String {
    TABLE.iter().map(|row| row.system).collect::<Vec<_>>().join(", ")
}

fn known_suffixes() -> String {
    TABLE.iter().map(|row| format!("{} or {}", row.suffix, row.system)).collect::<Vec<_>>().join(", ")
}

impl System {
    /// The system's name as Nix writes it.
    pub fn as_str(&self) -> &'static str {
        self.0.system
    }

    /// The platform that images built for this system have.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.0.os.to_owned(),
            architecture: self.0.architecture.to_owned(),
            variant: self.0.variant.map(str::to_owned),
        }
    }

    /// How tags of its images end: `amd64`.
    pub fn suffix(&self) -> &'static str {
        self.0.suffix
    }

    /// What the programs of this system are built for.
    pub fn machine(self) -> Machine {
        self.0.machine
    }

    /// The system whose images have `platform`, if the table has one.
    pub fn for_platform(platform: &Platform) -> Option<Self> {
        TABLE.iter().map(Self).find(|system| system.platform() == *platform)
    }

    /// Whether one of the dot-separated parts of a flake attribute is a system.
    pub fn named_in(attribute: &str) -> bool {
        attribute.split('.').any(|part| TABLE.iter().any(|row| row.system == part))
    }

    /// The system that `suffix` stands for at the end of a tag: `amd64` or `x86_64-linux`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn from_suffix(suffix: &str) -> Result<Self, PlatformError> {
        let named = TABLE.iter().find(|row| row.suffix == suffix || row.system == suffix);
        named.map(Self).ok_or_else(|| PlatformError::Suffix(suffix.chars().take(100).collect()))
    }

    /// The system that the end of a tag names, as `-amd64` or as `-x86_64-linux`.
    pub fn from_tag_suffix(tag: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| {
                [row.suffix, row.system].iter().any(|name| {
                    tag.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('-'))
                })
            })
            .map(Self)
    }
}

impl Platform {
    /// A platform from the fields of a descriptor or an image configuration, normalised.
    ///
    /// # Errors
    /// When a part is empty, or has characters that no GOOS, GOARCH or variant has.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, PlatformError> {
        let word = |s: &str| {
            !s.is_empty()
                && s.len() <= 32
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
        };
        let variant = variant.filter(|v| !v.is_empty());
        if !word(os) || !word(architecture) || !variant.is_none_or(word) {
            let mut shown = format!("{os}/{architecture}");
            if let Some(variant) = variant {
                shown = format!("{shown}/{variant}");
            }
            return Err(PlatformError::Platform(shown.chars().take(100).collect()));
        }
        let variant = match (architecture, variant) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", None | Some("7")) => Some("v7"),
            ("arm", Some("6")) => Some("v6"),
            ("arm", Some("5")) => Some("v5"),
            (_, variant) => variant,
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }

    /// The operating system (GOOS).
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture (GOARCH).
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant, where normalisation leaves one.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }
}

impl FromStr for System {
    type Err = PlatformError;

    fn from_str(s: &str) -> Result<Self, PlatformError> {
        TABLE
            .iter()
            .find(|row| row.system == s)
            .map(Self)
            .ok_or_else(|| PlatformError::System(s.chars().take(100).collect()))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(s: &str) -> Result<Self, PlatformError> {
        let mut parts = s.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), None) => Self::new(os, architecture, None),
            (Some(os), Some(architecture), Some(variant)) if !variant.is_empty() => {
                Self::new(os, architecture, Some(variant))
            }
            _ => Err(PlatformError::Platform(s.chars().take(100).collect())),
        }
    }
}

impl PartialEq for System {
    fn eq(&self, other: &Self) -> bool {
        self.0.system == other.0.system
    }
}
impl Eq for System {}
impl PartialOrd for System {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for System {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.system.cmp(other.0.system)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.system)
    }
}
impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.system)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_maps_to_one_platform_and_back() {
        for row in &TABLE {
            let system: System = row.system.parse().unwrap();
            assert_eq!(System::for_platform(&system.platform()), Some(system));
        }
    }

    #[test]
    fn unknown_systems_are_errors() {
        for bad in ["x86_64-darwin", "X86_64-linux", "x86_64", "", "amd64"] {
            assert_eq!(bad.parse::<System>(), Err(PlatformError::System(bad.to_owned())));
        }
    }

    #[test]
    fn platforms_compare_as_containerd_normalises_them() {
        let p = |s: &str| s.parse::<Platform>().unwrap();
        assert_eq!(p("linux/arm64"), p("linux/arm64/v8"));
        assert_eq!(p("linux/amd64"), p("linux/amd64/v1"));
        assert_eq!(p("linux/arm"), p("linux/arm/v7"));
        assert_ne!(p("linux/arm/v6"), p("linux/arm/v7"));
        assert_ne!(p("linux/amd64"), p("linux/amd64/v2"));
    }

    #[test]
    fn malformed_platforms_are_errors() {
        for bad in
            ["", "linux", "linux/", "/amd64", "Linux/amd64", "linux/amd64/", "linux/a/b/c", "linux/am d"]
        {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_tag_suffix_names_a_system_in_either_form() {
        let s = |tag| System::from_tag_suffix(tag).map(|s| s.as_str());
        for row in &TABLE {
            for suffix in [row.suffix, row.system] {
                let system = System::from_suffix(suffix).unwrap();
                assert_eq!(System::from_tag_suffix(&format!("git-abc-{suffix}")), Some(system));
            }
        }
        assert!(System::from_suffix("x86_64").is_err() && System::from_suffix("").is_err());
        assert_eq!(s("git-abc-amd64"), Some("x86_64-linux"));
        assert_eq!(s("git-abc-arm64"), Some("aarch64-linux"));
        assert_eq!(s("1.0-aarch64-linux"), Some("aarch64-linux"));
        assert_eq!(s("1.0-armv6"), Some("armv6l-linux"));
        assert_eq!(s("1.0"), None);
        assert_eq!(s("amd64"), None);
        assert_eq!(s("-amd64"), None);
        assert_eq!(s("notamd64"), None);
    }
}
