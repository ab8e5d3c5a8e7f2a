//! Types as far as their format matters, by their OIDs.
//!
//! Only types of `pg_catalog` have OIDs that are the same everywhere; for others the caller says
//! what they are.

/// How a single value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `text`, and whatever else is text without a limit (`unknown`, `refcursor`, `citext`).
    Text,
    /// Of at most `modifier - 4` characters.
    VarChar,
    /// Of exactly `modifier - 4` characters, padded with spaces.
    BpChar,
    /// Of at most 63 bytes.
    Name,
    /// `"char"`: one byte.
    Char,
    Json,
    Jsonb,
    JsonPath,
    Xml,
    Bytea,
    Int2,
    Int4,
    Int8,
    Oid,
    Numeric,
    Float4,
    Float8,
    Money,
    Bool,
    Uuid,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Inet,
    Cidr,
    MacAddr,
    Bit,
    TsVector,
    /// One of the labels of its type.
    Enum,
    /// A row, with fields of any type.
    Record,
    /// Any other, of which the format is not known.
    Opaque,
}

/// How many values there are, and how they are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Scalar,
    Array,
    Range,
    Multirange,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ValueType {
    pub kind: Kind,
    pub shape: Shape,
    /// Type modifier, -1 for none, as RowDescription has it.
    pub modifier: i32,
}

impl ValueType {
    #[must_use]
    pub const fn scalar(kind: Kind) -> Self {
        Self {
            kind,
            shape: Shape::Scalar,
            modifier: -1,
        }
    }

    #[must_use]
    pub const fn array(kind: Kind) -> Self {
        Self {
            kind,
            shape: Shape::Array,
            modifier: -1,
        }
    }

    #[must_use]
    pub const fn with_modifier(self, modifier: i32) -> Self {
        Self { modifier, ..self }
    }

    /// What `pg_catalog` has under this OID; [`Kind::Opaque`] for a type that it does not have.
    #[must_use]
    pub fn of(oid: u32) -> Self {
        let row = KNOWN
            .binary_search_by_key(&oid, |known| known.0)
            .ok()
            .and_then(|position| KNOWN.get(position));
        match row {
            Some(&(_, kind, shape)) => Self {
                kind,
                shape,
                modifier: -1,
            },
            None => Self::scalar(Kind::Opaque),
        }
    }

    pub(super) const fn element(self) -> Self {
        Self {
            shape: Shape::Scalar,
            ..self
        }
    }

    /// Most characters of a `varchar` or `bpchar`.
    pub(super) fn characters_max(self) -> Option<usize> {
        if !matches!(self.kind, Kind::VarChar | Kind::BpChar) {
            return None;
        }
        usize::try_from(self.modifier.checked_sub(4)?).ok()
    }
}

impl Kind {
    /// The whole value is text, the same bytes in both formats.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Text | Self::VarChar | Self::BpChar | Self::Name | Self::Char
        )
    }
}

/// The types of `pg_catalog` whose format we know, by OID.
///
/// Spec: PostgreSQL's `pg_type.dat`; a test compares it with a server's catalogue.
const KNOWN: &[(u32, Kind, Shape)] = {
    use Kind::{
        Bit, Bool, BpChar, Bytea, Char, Cidr, Date, Float4, Float8, Inet, Int2, Int4, Int8,
        Interval, Json, JsonPath, Jsonb, MacAddr, Money, Name, Numeric, Oid, Record, Text, Time,
        TimeTz, Timestamp, TimestampTz, TsVector, Uuid, VarChar, Xml,
    };
    use Shape::{Array, Multirange, Range, Scalar};
    &[
        (16, Bool, Scalar),
        (17, Bytea, Scalar),
        (18, Char, Scalar),
        (19, Name, Scalar),
        (20, Int8, Scalar),
        (21, Int2, Scalar),
        (23, Int4, Scalar),
        (25, Text, Scalar),
        (26, Oid, Scalar),
        (114, Json, Scalar),
        (142, Xml, Scalar),
        (143, Xml, Array),
        (199, Json, Array),
        (650, Cidr, Scalar),
        (651, Cidr, Array),
        (700, Float4, Scalar),
        (701, Float8, Scalar),
        (705, Text, Scalar),
        (774, MacAddr, Scalar),
        (775, MacAddr, Array),
        (790, Money, Scalar),
        (791, Money, Array),
        (829, MacAddr, Scalar),
        (869, Inet, Scalar),
        (1000, Bool, Array),
        (1001, Bytea, Array),
        (1002, Char, Array),
        (1003, Name, Array),
        (1005, Int2, Array),
        (1007, Int4, Array),
        (1009, Text, Array),
        (1014, BpChar, Array),
        (1015, VarChar, Array),
        (1016, Int8, Array),
        (1021, Float4, Array),
        (1022, Float8, Array),
        (1028, Oid, Array),
        (1040, MacAddr, Array),
        (1041, Inet, Array),
        (1042, BpChar, Scalar),
        (1043, VarChar, Scalar),
        (1082, Date, Scalar),
        (1083, Time, Scalar),
        (1114, Timestamp, Scalar),
        (1115, Timestamp, Array),
        (1182, Date, Array),
        (1183, Time, Array),
        (1184, TimestampTz, Scalar),
        (1185, TimestampTz, Array),
        (1186, Interval, Scalar),
        (1187, Interval, Array),
        (1231, Numeric, Array),
        (1266, TimeTz, Scalar),
        (1270, TimeTz, Array),
        (1560, Bit, Scalar),
        (1561, Bit, Array),
        (1562, Bit, Scalar),
        (1563, Bit, Array),
        (1700, Numeric, Scalar),
        (1790, Text, Scalar),
        (2201, Text, Array),
        (2249, Record, Scalar),
        (2287, Record, Array),
        (2950, Uuid, Scalar),
        (2951, Uuid, Array),
        (3614, TsVector, Scalar),
        (3643, TsVector, Array),
        (3802, Jsonb, Scalar),
        (3807, Jsonb, Array),
        (3904, Int4, Range),
        (3906, Numeric, Range),
        (3908, Timestamp, Range),
        (3910, TimestampTz, Range),
        (3912, Date, Range),
        (3926, Int8, Range),
        (4072, JsonPath, Scalar),
        (4073, JsonPath, Array),
        (4451, Int4, Multirange),
        (4532, Numeric, Multirange),
        (4533, Timestamp, Multirange),
        (4534, TimestampTz, Multirange),
        (4535, Date, Multirange),
        (4536, Int8, Multirange),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_are_in_order_so_that_each_is_found() {
        assert!(KNOWN.is_sorted_by(|one, two| one.0 < two.0));
        for (oid, kind, shape) in KNOWN {
            let found = ValueType::of(*oid);
            assert_eq!((found.kind, found.shape), (*kind, *shape));
        }
        assert_eq!(ValueType::of(0), ValueType::scalar(Kind::Opaque));
        assert_eq!(ValueType::of(16_384), ValueType::scalar(Kind::Opaque));
    }

    #[test]
    fn a_modifier_is_a_length_only_of_types_that_have_one() {
        let of = |kind, modifier| {
            ValueType::scalar(kind)
                .with_modifier(modifier)
                .characters_max()
        };
        assert_eq!(of(Kind::VarChar, 14), Some(10));
        assert_eq!(of(Kind::BpChar, 5), Some(1));
        assert_eq!(of(Kind::VarChar, -1), None);
        assert_eq!(of(Kind::VarChar, i32::MIN), None);
        assert_eq!(of(Kind::Numeric, 14), None);
    }
}
