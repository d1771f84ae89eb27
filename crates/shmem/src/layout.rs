//! Layouts as tables: from one source come the offsets that the code uses, the hash that keeps
//! programs of different layouts apart, and `docs/layout.md`.

/// One field of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name, as the constant has it.
    pub name: &'static str,
    /// Bytes from the layout's start.
    pub offset: usize,
    /// Bytes it takes.
    pub size: usize,
    /// Who writes it, when, and under which label or lock.
    pub writer: &'static str,
    /// What it means, its valid range, and what a crash leaves in it.
    pub meaning: &'static str,
}

/// A layout: a number of bytes, and what stands in them.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// What it is the layout of.
    pub name: &'static str,
    /// Bytes it takes.
    pub size: usize,
    /// The fields in the order of their offsets.
    pub fields: &'static [Field],
}

impl Layout {
    /// Panics, at compile time where it is used so, unless the fields are aligned, in order, and
    /// apart.
    pub const fn check(&self) {
        let mut end = 0;
        let mut i = 0;
        while i < self.fields.len() {
            let field = self.fields[i];
            let alignment = if field.size.is_multiple_of(8) { 8 } else { 4 };
            assert!(field.offset >= end, "fields overlap or are out of order");
            assert!(
                field.offset.is_multiple_of(alignment),
                "a field is not aligned"
            );
            end = field.offset + field.size;
            i += 1;
        }
        assert!(end <= self.size, "a field ends outside the layout");
    }

    /// Mixes this layout into a hash (64-bit FNV-1a over names, offsets and sizes).
    pub const fn hash(&self, seed: u64) -> u64 {
        let mut hash = fnv(seed, self.name.as_bytes());
        hash = fnv(hash, &(self.size as u64).to_le_bytes());
        let mut i = 0;
        while i < self.fields.len() {
            let field = self.fields[i];
            hash = fnv(hash, field.name.as_bytes());
            hash = fnv(hash, &(field.offset as u64).to_le_bytes());
            hash = fnv(hash, &(field.size as u64).to_le_bytes());
            i += 1;
        }
        hash
    }
}

/// Where a 64-bit FNV-1a hash starts.
pub const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// 64-bit FNV-1a: not for secrets, but the same on every machine and in every language.
pub const fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Declares a layout: a constant for each offset, and [`Layout`] as `LAYOUT`.
///
/// ```
/// shmem::layout! {
///     "a pair", 16;
///     FIRST: 8 @ 0, "its maker, once", "any number";
///     SECOND: 4 @ 8, "anybody", "any number";
/// }
/// assert_eq!((FIRST, SECOND, LAYOUT.size), (0, 8, 16));
/// ```
#[macro_export]
macro_rules! layout {
    ($name:literal, $size:expr; $($field:ident: $bytes:tt @ $offset:expr, $writer:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $field: usize = $offset;)*
        /// The layout as a table.
        pub const LAYOUT: $crate::layout::Layout = $crate::layout::Layout {
            name: $name,
            size: $size,
            fields: &[$($crate::layout::Field {
                name: stringify!($field),
                offset: $offset,
                size: $bytes,
                writer: $writer,
                meaning: $meaning,
            }),*],
        };
        const _: () = LAYOUT.check();
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_knows_every_number() {
        const A: Layout = Layout {
            name: "a",
            size: 8,
            fields: &[Field {
                name: "x",
                offset: 0,
                size: 8,
                writer: "",
                meaning: "",
            }],
        };
        let moved = Layout { size: 16, ..A };
        assert_ne!(A.hash(FNV_START), moved.hash(FNV_START));
        assert_eq!(fnv(FNV_START, b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
