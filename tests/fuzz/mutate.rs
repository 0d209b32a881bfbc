//! Makes wrong inputs from right ones: cuts, flips, splices, lengths that announce too much, nesting too deep. The same
//! seed makes the same inputs.

/// The most bytes in an input.
const LONGEST: usize = 64 * 1024;
/// The varint 2^64 - 1: the largest length that can be announced.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

/// Makes inputs from seeds.
pub struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty(), "a valid encoding to begin with");
        Self { state: seed, seeds }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
            input.truncate(LONGEST);
        }
        input
    }

    /// The next random number (splitmix64).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random() % bound.max(1) as u64) as usize
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        self.seeds[at].clone()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.random() as u8).collect()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let rest = input.len() - at;
        match self.below(13) {
            0 => input.truncate(at),
            1 => drop(input.drain(..at)),
            2 | 3 if rest > 0 => input[at] ^= 1 << self.below(8),
            4 | 5 if rest > 0 => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'='][self.below(8)],
            6 => {
                let count = self.below(16);
                let some = self.bytes(count);
                input.splice(at..at, some);
            }
            7 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            8 => {
                let part = input[at..at + self.below(rest + 1)].to_vec();
                let times = 1 + self.below(200);
                input.splice(at..at, part.repeat(times).into_iter().take(LONGEST));
            }
            9 => {
                let announced = &HUGE[self.below(HUGE.len())..];
                input.splice(at..at + announced.len().min(rest), announced.iter().copied());
            }
            10 => {
                let width = [2, 4, 8][self.below(3)];
                let fill = [0xff, 0x7f, 0x00][self.below(3)];
                input.splice(at..at + width.min(rest), vec![fill; width]);
            }
            11 => *input = self.nested(input),
            _ => {
                // Many empty elements: each is two bytes here and a whole structure once decoded.
                let element = [8 * (1 + self.below(15) as u8) + 2, 0];
                let times = self.below(LONGEST / 2);
                input.splice(at..at, element.repeat(times));
            }
        }
    }

    /// The input wrapped as the innermost of many messages.
    fn nested(&mut self, input: &[u8]) -> Vec<u8> {
        let mut nested = input.to_vec();
        for _ in 0..self.below(300) {
            let mut length = nested.len();
            let mut outer = vec![8 * (1 + self.below(15) as u8) + 2];
            while length >= 0x80 {
                outer.push(length as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.append(&mut nested);
            nested = outer;
            if nested.len() > LONGEST {
                break;
            }
        }
        nested
    }
}

#[test]
fn one_seed_makes_the_same_inputs_and_another_makes_others() {
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed, vec![b"some words".to_vec(), vec![0x0a, 1, 7]]);
        (0..100).map(|_| mutator.next()).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
    let mut lengths: Vec<usize> = inputs(1).iter().map(Vec::len).collect();
    lengths.sort_unstable();
    assert!(lengths[0] < 4 && lengths[99] > 10_000, "{lengths:?}");
}
