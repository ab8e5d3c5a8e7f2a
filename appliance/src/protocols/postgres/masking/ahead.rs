//! Rows that came together are looked at together: clean ones pass at the speed of memory.

use codecs::postgres::edit::copy_values_of_rows;
use policy::mask::detect::DetectorSet;

/// Bytes of rows that are looked at together, at most. A read of the largest size.
const TOGETHER: usize = 64 * 1024;

/// What is known of the rows that are unread. Per connection; given back when all is answered.
#[derive(Default)]
pub(super) struct Ahead {
    /// Whole rows, with NUL between their values: bytes of a header would pass for the end of a
    /// value, or its beginning.
    rows: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
    /// Bytes from the next row on in which detectors find nothing.
    clean: usize,
}

impl Ahead {
    /// Whether detectors find nothing in the row of `bytes` at the front of `unread`.
    pub(super) fn is_clean(
        &mut self,
        bytes: usize,
        unread: &[u8],
        detectors: &DetectorSet,
    ) -> bool {
        if self.clean >= bytes {
            return true;
        }
        if self.rows.len().saturating_sub(self.taken) < bytes {
            self.rows.clear();
            self.taken = 0;
            copy_values_of_rows(unread, TOGETHER, &mut self.rows);
        }
        let rows = self.rows.get(self.taken..).unwrap_or_default();
        self.clean = detectors.clean_prefix(rows);
        self.clean >= bytes
    }

    /// The first bytes of what is unread were taken.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.clean = self.clean.saturating_sub(bytes);
        self.taken = self.taken.saturating_add(bytes);
        if self.taken >= self.rows.len() {
            self.rows.clear();
            self.taken = 0;
            self.clean = 0;
        }
    }
}
