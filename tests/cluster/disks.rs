//! Disks that can be disturbed: file systems of their own, mounted in a node's folder.
//!
//! Needs root; whoever mounts one says what it does without.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// A mounted file system; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(home: &Path, name: &str, options: &[&str]) -> Option<Mounted> {
        let place = home.join(name);
        fs::create_dir(&place).unwrap();
        let arguments = [options, &[place.to_str().unwrap()]].concat();
        run("mount", &arguments).then_some(Mounted(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// A tmpfs, which can be filled.
pub(crate) struct Tmpfs(Mounted);

impl Tmpfs {
    /// Mounts one of so many bytes (`128m`) under that name. None where that is not possible.
    pub(crate) fn mount(home: &Path, name: &str, size: &str) -> Option<Tmpfs> {
        Mounted::at(home, name, &["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).map(Tmpfs)
    }

    fn filler(&self) -> PathBuf {
        self.0.0.join("filler")
    }

    /// Somebody else takes so many bytes more; false if there is less room.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        file.write_all(&vec![0; bytes]).is_ok()
    }

    /// Somebody else takes all the room that there is.
    pub(crate) fn fill(&self) {
        for block in [1 << 20, 4096] {
            while self.take(block) {}
        }
    }

    /// Gives back what was taken.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

/// An ext4 in a file, which can be frozen. It thaws when dropped, which must come before the node is killed: a process that
/// waits for a frozen disk cannot be.
pub(crate) struct Freezable(Mounted);

impl Freezable {
    /// Mounts one as `disk`. None where that is not possible.
    pub(crate) fn mount(home: &Path) -> Option<Freezable> {
        let image = home.join("image");
        fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        let image = image.to_str().unwrap();
        let made = run("mkfs.ext4", &["-q", image]);
        made.then(|| Mounted::at(home, "disk", &["-o", "loop", image]))?.map(Freezable)
    }

    /// From now on nothing that writes to it ends. Whether that was possible.
    pub(crate) fn freeze(&self) -> bool {
        run("fsfreeze", &["-f", self.0.0.to_str().unwrap()])
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        run("fsfreeze", &["-u", self.0.0.to_str().unwrap()]);
    }
}

impl Drop for Freezable {
    fn drop(&mut self) {
        self.thaw();
    }
}
