//! A linear map of 16-bit elements over GF(2).

/// Bits of an element.
pub const ELEMENT_BITS: usize = 16;

/// A linear map of 16-bit elements over GF(2): the image of an element is the exclusive or of the
/// images of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    images: [u16; ELEMENT_BITS],
}

impl Map {
    /// Maps everything to 0.
    pub const ZERO: Map = Map { images: [0; ELEMENT_BITS] };

    /// The map that gives these images to the elements `1 << 0` to `1 << 15`.
    pub const fn from_images(images: [u16; ELEMENT_BITS]) -> Map {
        Map { images }
    }

    /// Maps everything to itself.
    pub fn identity() -> Map {
        Map { images: std::array::from_fn(|bit| 1 << bit) }
    }

    /// The image of an element.
    pub fn apply(&self, element: u16) -> u16 {
        let images = self.images.iter().enumerate();
        images.fold(0, |sum, (bit, image)| sum ^ (image & (element >> bit & 1).wrapping_neg()))
    }

    /// First `inner`, then this.
    pub fn after(&self, inner: &Map) -> Map {
        Map { images: inner.images.map(|image| self.apply(image)) }
    }

    /// The map whose images are the sums of both maps' images.
    pub fn plus(&self, other: &Map) -> Map {
        Map { images: std::array::from_fn(|bit| self.images[bit] ^ other.images[bit]) }
    }

    /// Which bits of an element bit `bit` of its image is the parity of.
    pub(super) fn row(&self, bit: usize) -> u16 {
        let images = self.images.iter().enumerate();
        images.fold(0, |row, (from, image)| row | (image >> bit & 1) << from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(seed: u32) -> Map {
        Map::from_images(std::array::from_fn(|bit| {
            (seed.wrapping_add(bit as u32).wrapping_mul(2_654_435_761) >> 11) as u16
        }))
    }

    #[test]
    fn sums_and_compositions_are_those_of_the_images() {
        let (outer, inner) = (map(1), map(77));
        for element in (0..=u16::MAX).step_by(257) {
            assert_eq!(outer.after(&inner).apply(element), outer.apply(inner.apply(element)));
            assert_eq!(
                outer.plus(&inner).apply(element),
                outer.apply(element) ^ inner.apply(element)
            );
            assert_eq!(Map::identity().apply(element), element);
            assert_eq!(Map::ZERO.apply(element), 0);
        }
    }

    #[test]
    fn a_row_says_what_its_bit_is_the_parity_of() {
        let map = map(5);
        for element in (0..=u16::MAX).step_by(331) {
            for bit in 0..ELEMENT_BITS {
                let parity = (map.row(bit) & element).count_ones() % 2;
                assert_eq!(u32::from(map.apply(element) >> bit & 1), parity);
            }
        }
    }
}
