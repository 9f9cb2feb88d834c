//! Downloads that are made once and cached.
//!
//! Guarantees that a folder returned by [`cached`] is complete and made from the given manifest,
//! even if several processes request it at once or one was killed while it filled the folder.
//!
//! Does not guarantee that its content is verified again later.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::cache_root::cache_root;

/// Returns the folder `services/<name>`. `fill` makes it from what `manifest` says, unless it is
/// cached.
pub(crate) fn cached(name: &str, manifest: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let services = cache_root()?.join("services");
    let folder = services.join(name);
    let because = |cause: std::io::Error| format!("can't prepare {}: {cause}", folder.display());

    fs::create_dir_all(&services).map_err(because)?;
    let lock = File::create(services.join(format!("{name}.lock"))).map_err(because)?;
    lock.lock().map_err(because)?; // released when the file is closed, even by a kill

    let made_from = folder.join("manifest"); // written last, so it marks a complete folder
    if fs::read_to_string(&made_from).is_ok_and(|found| found == manifest) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(because)?;
    }
    fs::create_dir_all(&folder).map_err(because)?;
    fill(&folder)?;
    fs::write(&made_from, manifest).map_err(because)?;
    Ok(folder)
}

/// Returns a folder with `lib/`: the jars of these Maven coordinates (`group:artifact:version`) and
/// of their runtime dependencies.
pub(crate) fn jars(name: &str, coordinates: &[&str], finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    cached(name, &coordinates.join("\n"), |folder| {
        let dependencies: String = coordinates.iter().map(|coordinate| dependency(coordinate)).collect();
        let pom = folder.join("pom.xml");
        let text = format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
             <groupId>forebay</groupId><artifactId>{name}</artifactId><version>0</version><packaging>pom</packaging>\
             <dependencies>{dependencies}</dependencies></project>\n"
        );
        fs::write(&pom, text).map_err(|cause| format!("can't write {}: {cause}", pom.display()))?;
        let mut maven = Command::new("mvn");
        maven
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(&pom)
            .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
            .arg("-DincludeScope=runtime")
            .arg(format!("-DoutputDirectory={}", folder.join("lib").display()));
        run(&mut maven, 900, "install Maven (apt-get install maven), and check that it reaches Maven Central")?;
        finish(folder)
    })
}

fn dependency(coordinate: &str) -> String {
    let mut parts = coordinate.split(':');
    let mut part = || parts.next().expect("a coordinate is group:artifact:version");
    format!("<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>", part(), part(), part())
}

/// Returns a Python virtual environment with these pinned packages. It is filled at its final path,
/// because its scripts contain that path.
pub(crate) fn venv(name: &str, requirements: &str) -> Result<PathBuf> {
    cached(name, requirements, |folder| {
        let venv = folder.join("venv");
        let mut python = Command::new("python3");
        python.args(["-m", "venv"]).arg(&venv);
        run(&mut python, 300, "install Python with virtual environments (apt-get install python3-venv)")?;
        let list = folder.join("requirements.txt");
        fs::write(&list, requirements).map_err(|cause| format!("can't write {}: {cause}", list.display()))?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&list);
        run(&mut pip, 600, "check that pip reaches its package index")
    })
    .map(|folder| folder.join("venv"))
}

/// Runs a command to its end, for at most this many seconds.
fn run(command: &mut Command, seconds: u32, remedy: &str) -> Result<()> {
    crate::process::output(command, seconds).map(|_| ()).map_err(|error| format!("{error}\nremedy: {remedy}"))
}
