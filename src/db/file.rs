//! The file of a SQLite database: where it is, whether it may be used, and that one process alone serves from it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The lock on a SQLite file. It is released at the end of this value, and not when the file closes: a process that
/// was just started by this one holds a copy of the file for a moment.
pub(super) struct FileLock(File);

impl FileLock {
    pub(super) fn release(&self) {
        // Nothing can be done about a failure; the lock then ends with the process.
        let _ = self.0.unlock();
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        self.release();
    }
}

/// The file behind a SQLite URL, or `None` for one in memory.
#[must_use]
pub fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))?;
    let path = rest.split('?').next().unwrap_or(rest);
    // The driver decodes it too, and the lock and key files must stand beside the very same file.
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(&*path))
}

/// Fails where `url` is one of SQLite and names what cannot be served from.
pub fn check_url(url: &str) -> Result<(), OpenError> {
    if !url.starts_with("sqlite:") {
        return Ok(());
    }
    let Some(path) = sqlite_path(url) else {
        return Err(OpenError::Mode(
            "FOLLOWPOINTS_DATABASE_URL must name a file: what is written must be kept".to_owned(),
        ));
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        let folder = folder.display();
        return Err(OpenError::Mode(format!(
            "there is no folder {folder}; make it, or check FOLLOWPOINTS_DATABASE_URL"
        )));
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let mode = parameters.split('&').find_map(|parameter| parameter.strip_prefix("mode="));
    match mode {
        Some("rw") if !path.exists() => Err(OpenError::Mode(format!(
            "there is no database at {}; check FOLLOWPOINTS_DATABASE_URL, or say mode=rwc to have it made",
            path.display()
        ))),
        Some("ro" | "memory") => Err(OpenError::Mode(
            "FOLLOWPOINTS_DATABASE_URL must not say mode=ro or mode=memory: what is written must be kept"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(super) fn lock_file(url: &str) -> Result<Option<FileLock>, OpenError> {
    let Some(path) = sqlite_path(url) else {
        return Ok(None);
    };
    check_url(url)?;
    let mut lock_path = path.clone().into_os_string();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let not_writable = |path: &Path, source| OpenError::NotWritable { path: path.to_owned(), source };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|source| not_writable(&lock_path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path)),
        Err(TryLockError::Error(source)) => return Err(not_writable(&lock_path, source)),
    }
    File::options().create(true).append(true).open(&path).map_err(|source| not_writable(&path, source))?;
    Ok(Some(FileLock(file)))
}
