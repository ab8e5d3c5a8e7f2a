//! Rows with lengths: the binary format.

use super::{CopyError, CopyFields, malformed};
use crate::postgres::value::Rewritten;
use crate::wire::{Malformed, Reader};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Bytes before the extension of the header: signature, flags and the extension's length.
const HEADER_BYTES: usize = SIGNATURE.len() + 4 + 4;

/// Flags that a reader must know, none of which a supported server sets.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// What is awaited.
///
/// ```text
/// Header ─▶ Extension ─▶ Tuple ─▶ Length ─▶ Field | Passing ─▶ Length ... ─▶ Tuple
///                          └─ -1 ─▶ Trailed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    Header,
    Extension {
        bytes: usize,
    },
    Tuple,
    Length {
        column: usize,
    },
    /// A field that is looked at.
    Field {
        column: usize,
        bytes: usize,
    },
    /// What is left of a field that is not.
    Passing {
        column: usize,
        bytes: usize,
    },
    Trailed,
}

#[derive(Debug)]
pub(super) struct BinaryRewriter {
    columns: usize,
    field_bytes_max: usize,
    awaiting: Awaiting,
    /// The begin of what is awaited.
    held: Vec<u8>,
    edited: Vec<u8>,
}

impl BinaryRewriter {
    pub(super) fn new(columns: usize, field_bytes_max: usize) -> Self {
        Self {
            columns,
            field_bytes_max,
            awaiting: Awaiting::Header,
            held: Vec::new(),
            edited: Vec::new(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.awaiting == Awaiting::Trailed
    }

    pub(super) fn rewrite(
        &mut self,
        chunk: &[u8],
        fields: &mut dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<(), CopyError> {
        let mut rest = chunk;
        loop {
            let wanted = match self.awaiting {
                Awaiting::Header => HEADER_BYTES,
                Awaiting::Tuple => 2,
                Awaiting::Length { .. } => 4,
                Awaiting::Field { bytes, .. } => bytes,
                Awaiting::Extension { bytes } => {
                    let Some(behind) = pass(&mut rest, bytes, out) else {
                        self.awaiting = Awaiting::Tuple;
                        continue;
                    };
                    self.awaiting = Awaiting::Extension { bytes: behind };
                    return Ok(());
                }
                Awaiting::Passing { column, bytes } => {
                    let Some(behind) = pass(&mut rest, bytes, out) else {
                        self.awaiting = self.after(column);
                        continue;
                    };
                    let bytes = behind;
                    self.awaiting = Awaiting::Passing { column, bytes };
                    return Ok(());
                }
                Awaiting::Trailed if rest.is_empty() => return Ok(()),
                Awaiting::Trailed => {
                    let bytes = rest.len();
                    return Err(malformed(Malformed::Surplus { bytes }));
                }
            };
            let missing = wanted - self.held.len();
            let Some((part, behind)) = rest.split_at_checked(missing) else {
                self.held.extend_from_slice(rest);
                return Ok(());
            };
            rest = behind;
            self.awaiting = if self.held.is_empty() {
                self.arrived(part, fields, out)?
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(part);
                let next = self.arrived(&held, fields, out)?;
                held.clear();
                self.held = held;
                next
            };
        }
    }

    /// Takes what was awaited, and says what is next.
    fn arrived(
        &mut self,
        bytes: &[u8],
        fields: &mut dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<Awaiting, CopyError> {
        match self.awaiting {
            Awaiting::Header => {
                out.extend_from_slice(bytes);
                let bytes = extension_bytes(bytes).map_err(malformed)?;
                Ok(Awaiting::Extension { bytes })
            }
            Awaiting::Tuple => {
                out.extend_from_slice(bytes);
                self.tuple(bytes)
            }
            Awaiting::Length { column } => {
                let announced = Reader::new(bytes).i32().map_err(malformed)?;
                self.length(announced, column, fields, out)
            }
            Awaiting::Field { column, .. } => {
                self.field(column, bytes, fields, out)?;
                Ok(self.after(column))
            }
            passing @ (Awaiting::Extension { .. }
            | Awaiting::Passing { .. }
            | Awaiting::Trailed) => Ok(passing),
        }
    }

    fn tuple(&self, bytes: &[u8]) -> Result<Awaiting, CopyError> {
        let counted = Reader::new(bytes).i16().map_err(malformed)?;
        if counted == -1 {
            return Ok(Awaiting::Trailed);
        }
        let expected = self.columns;
        match usize::try_from(counted) {
            Ok(0) if expected == 0 => Ok(Awaiting::Tuple),
            Ok(counted) if counted == expected => Ok(Awaiting::Length { column: 0 }),
            Ok(counted) => Err(malformed(Malformed::CountMismatch { counted, expected })),
            Err(_) => Err(malformed(Malformed::Negative {
                value: i32::from(counted),
            })),
        }
    }

    fn length(
        &self,
        announced: i32,
        column: usize,
        fields: &dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<Awaiting, CopyError> {
        if announced == -1 {
            out.extend_from_slice(&announced.to_be_bytes());
            return Ok(self.after(column));
        }
        let bytes = usize::try_from(announced)
            .map_err(|_| malformed(Malformed::Negative { value: announced }))?;
        if !fields.looks_at(column) {
            out.extend_from_slice(&announced.to_be_bytes());
            return Ok(Awaiting::Passing { column, bytes });
        }
        if bytes > self.field_bytes_max {
            return Err(CopyError::TooLong {
                limit: self.field_bytes_max,
            });
        }
        Ok(Awaiting::Field { column, bytes })
    }

    fn field(
        &mut self,
        column: usize,
        value: &[u8],
        fields: &mut dyn CopyFields,
        out: &mut Vec<u8>,
    ) -> Result<(), CopyError> {
        self.edited.clear();
        let written = match fields.field(column, value, &mut self.edited) {
            Rewritten::Unchanged => value,
            Rewritten::Value => &self.edited,
            Rewritten::Null => {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                return Ok(());
            }
        };
        let limit = self.field_bytes_max;
        let length = i32::try_from(written.len()).map_err(|_| CopyError::TooLong { limit })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(written);
        Ok(())
    }

    const fn after(&self, column: usize) -> Awaiting {
        let column = column + 1;
        if column < self.columns {
            Awaiting::Length { column }
        } else {
            Awaiting::Tuple
        }
    }
}

/// Passes up to so many bytes on; says how many are missing, if any.
fn pass(rest: &mut &[u8], bytes: usize, out: &mut Vec<u8>) -> Option<usize> {
    if let Some((part, behind)) = rest.split_at_checked(bytes) {
        out.extend_from_slice(part);
        *rest = behind;
        return None;
    }
    out.extend_from_slice(rest);
    let missing = bytes - rest.len();
    *rest = &[];
    Some(missing)
}

fn extension_bytes(header: &[u8]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(header);
    if reader.array::<{ SIGNATURE.len() }>()? != *SIGNATURE {
        return Err(Malformed::NotText);
    }
    let flags = reader.u32()?;
    if flags & CRITICAL_FLAGS != 0 {
        return Err(Malformed::TooMany { limit: 0 });
    }
    let announced = reader.i32()?;
    usize::try_from(announced).map_err(|_| Malformed::Negative { value: announced })
}
