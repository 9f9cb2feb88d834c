//! Java 17, the only version that both servers support: Kafka 4.1 needs at least 17, Cassandra 5.0
//! at most 17.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Result, Size};

const REMEDY: &str = "remedy: apt-get install openjdk-17-jdk-headless, or set JAVA_HOME to a JDK 17";

/// Returns a `java` command, version 17, with a folder of jars as class path.
pub(crate) fn java(lib: &Path) -> Result<Command> {
    static FOUND: OnceLock<Result<PathBuf>> = OnceLock::new();
    let mut command = Command::new(FOUND.get_or_init(find).clone()?);
    command.arg("-cp").arg(lib.join("*"));
    Ok(command)
}

/// Returns the JVM options of a server. `test` and `bench` are the minimum and maximum heap in MiB.
pub(crate) fn machine(size: Size, test: (u32, u32), bench: (u32, u32)) -> Vec<String> {
    let (min, max) = if size == Size::Test { test } else { bench };
    let mut options = vec![format!("-Xms{min}m"), format!("-Xmx{max}m"), "-XX:+ExitOnOutOfMemoryError".into()];
    match size {
        Size::Test => options.extend(["-XX:+UseSerialGC".into(), "-XX:TieredStopAtLevel=1".into()]),
        Size::Bench => options.push("-XX:+UseG1GC".into()),
    }
    options
}

fn find() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let debian = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path().join("bin/java"));
    let mut seen = String::new();
    for candidate in home.into_iter().chain([PathBuf::from("java")]).chain(debian) {
        let Ok(output) = Command::new(&candidate).arg("-version").output() else { continue };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match major(&text) {
            Some(17) => return Ok(candidate),
            Some(other) => seen.push_str(&format!("\n  {} is version {other}", candidate.display())),
            None => {}
        }
    }
    Err(format!("no Java 17 in JAVA_HOME, PATH or /usr/lib/jvm{seen}\n{REMEDY}"))
}

/// Parses the major version out of `java -version`: `openjdk version "17.0.15" 2025-04-15`, and
/// `"1.8.0_392"` for 8.
fn major(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut numbers = version.split(['.', '-', '_', '+']).map_while(|part| part.parse().ok());
    match numbers.next()? {
        1 => numbers.next(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_version_is_parsed_from_the_output_of_java() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("openjdk version \"22-ea\" 2024-03-19"), Some(22));
        assert_eq!(major("java version \"1.8.0_392\""), Some(8));
        assert_eq!(major("command not found"), None);
    }
}
