//! The file that is written: made, or found and made whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::Path;

use super::reading::ReadError;
use super::records::Records;

/// Where records go. Its methods block.
pub(super) trait Storage: Write + Send {
    /// Has what was written survive the machine.
    fn sync(&mut self) -> io::Result<()>;
}

impl Storage for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes a file that there is not yet.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    sync_folder(path);
    Ok(file)
}

/// Opens a file at its end, which it has cut off where it was torn; makes it if there is none. With
/// the bytes that are in it.
pub(super) fn append(path: &Path) -> Result<(File, u64), ReadError> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ReadError::NotARecording); // A pipe or a device has no end to be appended to.
    }
    let mut records = Records::new(&file).max_record(u32::MAX as usize);
    let whole = loop {
        match records.next() {
            Some(Ok(_)) => {}
            Some(Err(ReadError::Torn { at })) => break at,
            Some(Err(e)) => return Err(e),
            None => break records.position(),
        }
    };
    drop(records);
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    file.sync_all()?;
    sync_folder(path);
    Ok((file, whole))
}

/// That there is a file is written in its folder. Where a folder cannot be synchronized, its file
/// system has other ways.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
    if let Err(error) = synced {
        tracing::debug!(%error, "the recording's folder is not synchronized");
    }
}
