//! Which points are on P-256 (SEC 2, section 2.4.2): those whose coordinates are in the field and
//! hold y² = x³ - 3x + b. ring asks this of each signature alone, and says no more than that it does
//! not hold. Keys are public, so nothing here needs to take the same time for each.

/// A number below 2^256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    high: u128,
    low: u128,
}

const ZERO: Number = Number { high: 0, low: 0 };
const THREE: Number = Number { high: 0, low: 3 };
/// The field's prime.
const P: Number =
    Number { high: 0xffff_ffff_0000_0001_0000_0000_0000_0000, low: 0xffff_ffff_ffff_ffff_ffff_ffff };
const B: Number = Number {
    high: 0x5ac6_35d8_aa3a_93e7_b3eb_bd55_7698_86bc,
    low: 0x651d_06b0_cc53_b0f6_3bce_3c3e_27d2_604b,
};

/// Whether the point with these coordinates, each with the highest byte first, is on the curve.
pub(super) fn has(x: &[u8], y: &[u8]) -> bool {
    let (x, y) = (Number::read(x), Number::read(y));
    x < P && y < P && y.times(y) == x.times(x).less(THREE).times(x).plus(B)
}

impl Number {
    fn read(bytes: &[u8]) -> Self {
        bytes.iter().fold(ZERO, |number, byte| Self {
            high: number.high << 8 | number.low >> 120,
            low: number.low << 8 | u128::from(*byte),
        })
    }

    /// The sum in the field, in which both are.
    fn plus(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        let (high, over) = self.high.overflowing_add(other.high);
        let (high, carried_over) = high.overflowing_add(u128::from(carry));
        let sum = Self { high, low };
        if over || carried_over || sum >= P { sum.wrapping_less(P) } else { sum }
    }

    /// The difference in the field, in which both are.
    fn less(self, other: Self) -> Self {
        self.plus(P.wrapping_less(other))
    }

    fn wrapping_less(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Self { high: self.high.wrapping_sub(other.high).wrapping_sub(u128::from(borrow)), low }
    }

    /// The product in the field, in which both are: doubled and added, bit by bit.
    fn times(self, other: Self) -> Self {
        let bits = |number: u128| (0..128).rev().map(move |bit| number >> bit & 1 == 1);
        bits(other.high).chain(bits(other.low)).fold(ZERO, |product, bit| {
            let twice = product.plus(product);
            if bit { twice.plus(self) } else { twice }
        })
    }
}
