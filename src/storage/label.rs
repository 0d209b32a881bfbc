//! Labels: what the owner of a log writes on the file, so that a file of somebody else is recognised.

use bytes::Bytes;

use super::{LogFile, Result, log::closed, log_table::LogTable};

impl LogFile {
    /// What its owner wrote on the file; none if nothing was written.
    pub fn label(&self) -> Result<Option<Bytes>> {
        self.open_table()?.label()
    }

    /// Writes `label` on the file and ties the witness to it, durably. Blocks, and must not race with other operations: for
    /// a log that has just been opened.
    pub fn set_label(&self, label: &[u8]) -> Result<()> {
        self.open_table()?.set_label(label)
    }

    fn open_table(&self) -> Result<LogTable> {
        let state = self.shared().lock();
        state.usable()?;
        state.table.clone().ok_or_else(|| closed("the log"))
    }
}
