//! The Debian package where cargo-deb is missing: put together from `[package.metadata.deb]` with dpkg-deb. The same
//! files, modes, scripts, conffiles and dependencies, without what cargo-deb adds to the scripts for systemd.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Files whose name fits `pattern`, which may hold one `*`.
pub fn fitting(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap().to_str().unwrap();
    let (start, end) = name.split_once('*').unwrap_or((name, ""));
    let fits = |it: &str| {
        if name.contains('*') { it.starts_with(start) && it.ends_with(end) } else { it == name }
    };
    let directory = pattern.parent().unwrap();
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", pattern.display()));
    entries.flatten().filter(|it| it.file_name().to_str().is_some_and(fits)).map(|it| it.path()).collect()
}

fn put(from: &Path, to: &Path, mode: u32) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What `deploy/debian/build` makes of the binary before it packs: man pages and completions.
fn made(binary: &Path, directory: &Path) {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    std::fs::create_dir_all(&man).unwrap();
    std::fs::create_dir_all(&completions).unwrap();
    run(Command::new(binary).arg("man").arg(&man));
    for (shell, name) in [("bash", "beian-gate"), ("zsh", "_beian-gate"), ("fish", "beian-gate.fish")] {
        let text = run(Command::new(binary).args(["completions", shell]));
        std::fs::write(completions.join(name), text).unwrap();
    }
}

/// The package of the binary under test, below `scratch`.
pub fn by_metadata(scratch: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        toml::from_str(&std::fs::read_to_string(root.join("Cargo.toml")).unwrap()).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let text = |key: &str| deb[key].as_str().unwrap_or_else(|| panic!("no {key}"));
    let list = |key: &str| deb[key].as_array().unwrap_or_else(|| panic!("no {key}"));
    let (tree, own) = (scratch.join("tree"), scratch.join("deb"));
    let binary = Path::new(env!("CARGO_BIN_EXE_beian-gate"));
    made(binary, &own);
    for asset in list("assets") {
        let [source, target, mode] = [0, 1, 2].map(|nth| asset[nth].as_str().unwrap());
        let found = match (source, source.strip_prefix("target/deb/")) {
            ("target/release/beian-gate", _) => vec![binary.to_owned()],
            (_, Some(made)) => fitting(&own.join(made)),
            _ => fitting(&root.join(source)),
        };
        assert!(!found.is_empty(), "{source} is not there");
        for file in found {
            let into = tree.join(target);
            let to = if target.ends_with('/') { into.join(file.file_name().unwrap()) } else { into };
            put(&file, &to, u32::from_str_radix(mode, 8).unwrap());
        }
    }
    for page in fitting(&tree.join("usr/share/man/man1/*")) {
        run(Command::new("gzip").arg("-9n").arg(page));
    }
    put(&root.join("LICENSE"), &tree.join("usr/share/doc/beian-gate/copyright"), 0o644);
    let unit = deb["systemd-units"]["unit-name"].as_str().unwrap();
    let units = root.join(deb["systemd-units"]["unit-scripts"].as_str().unwrap());
    for file in fitting(&units.join(format!("{unit}.*"))) {
        put(&file, &tree.join("usr/lib/systemd/system").join(file.file_name().unwrap()), 0o644);
    }
    for script in ["postinst", "postrm"] {
        let from = root.join(text("maintainer-scripts")).join(script);
        let to = tree.join("DEBIAN").join(script);
        put(&from, &to, 0o755);
        let shown = std::fs::read_to_string(&to).unwrap();
        std::fs::write(&to, shown.replace("#DEBHELPER#", "")).unwrap();
    }
    let conffiles: String =
        list("conf-files").iter().map(|it| it.as_str().unwrap().to_owned() + "\n").collect();
    std::fs::write(tree.join("DEBIAN/conffiles"), conffiles).unwrap();
    let architecture = String::from_utf8(run(Command::new("dpkg").arg("--print-architecture"))).unwrap();
    let control = format!(
        "Package: beian-gate\nVersion: {}-1\nArchitecture: {}\nMaintainer: {}\nSection: {}\nPriority: {}\n\
         Depends: {}\nDescription: {}\n",
        env!("CARGO_PKG_VERSION"),
        architecture.trim(),
        text("maintainer"),
        text("section"),
        text("priority"),
        text("depends").replace("$auto, ", ""),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let package = scratch.join("beian-gate.deb");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&package));
    package
}
