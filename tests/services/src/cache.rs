//! What is fetched once and kept. A folder that [`kept`] returns is whole and made from the manifest given, also when many
//! processes ask at once or one was killed while it filled the folder. What is in it is not verified again later.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// `$FOREBAY_CACHE`, else `~/.cache/forebay`.
pub(crate) fn root() -> Result<PathBuf> {
    let root = match std::env::var_os("FOREBAY_CACHE").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()
            .ok_or("there is no home folder; set FOREBAY_CACHE to a folder to keep the servers in")?
            .join(".cache/forebay"),
    };
    std::path::absolute(&root).map_err(|cause| format!("the path {} is not usable: {cause}", root.display()))
}

/// The folder `services/<name>`, which `fill` made from what `manifest` says, now or at an earlier time.
pub(crate) fn kept(name: &str, manifest: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let services = root()?.join("services");
    let folder = services.join(name);
    let because = |cause: std::io::Error| format!("can't prepare {}: {cause}", folder.display());

    fs::create_dir_all(&services).map_err(because)?;
    let lock = File::create(services.join(format!("{name}.lock"))).map_err(because)?;
    lock.lock().map_err(because)?; // given back when the file is closed, also by a kill

    let made_from = folder.join("manifest"); // written last, so it stands for the whole folder
    if fs::read_to_string(&made_from).is_ok_and(|there| there == manifest) {
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

/// A folder with `lib/`: the jars of these Maven coordinates (`group:artifact:version`) and of all they need at run time.
pub(crate) fn jars(name: &str, coordinates: &[&str], finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    kept(name, &coordinates.join("\n"), |folder| {
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
        run(&mut maven, 900, "install Maven (apt-get install maven), and see that it reaches Maven Central")?;
        finish(folder)
    })
}

fn dependency(coordinate: &str) -> String {
    let mut parts = coordinate.split(':');
    let mut part = || parts.next().expect("a coordinate is group:artifact:version");
    format!("<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>", part(), part(), part())
}

/// A Python virtual environment with these packages, pinned. It is filled in its final place, since its scripts name that place.
pub(crate) fn venv(name: &str, requirements: &str) -> Result<PathBuf> {
    kept(name, requirements, |folder| {
        let venv = folder.join("venv");
        let mut python = Command::new("python3");
        python.args(["-m", "venv"]).arg(&venv);
        run(&mut python, 300, "install Python with virtual environments (apt-get install python3-venv)")?;
        let list = folder.join("requirements.txt");
        fs::write(&list, requirements).map_err(|cause| format!("can't write {}: {cause}", list.display()))?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&list);
        run(&mut pip, 600, "see that pip reaches its package index")
    })
    .map(|folder| folder.join("venv"))
}

/// Runs a command to its end, for at most so many seconds.
fn run(command: &mut Command, seconds: u32, remedy: &str) -> Result<()> {
    crate::process::output(command, seconds).map(|_| ()).map_err(|trouble| format!("{trouble}\nremedy: {remedy}"))
}
