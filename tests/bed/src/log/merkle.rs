//! The Merkle tree of RFC 6962, section 2.1, computed as it is defined there.

use crate::sha256;

/// The hash of a leaf or a node.
pub type Hash = [u8; 32];

/// A tree of entries in the order they came.
#[derive(Default)]
pub struct Tree(Vec<Hash>);

/// The hash of an entry as a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[0], entry].concat())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], &left[..], right].concat())
}

impl Tree {
    /// Adds a leaf and returns its index.
    pub fn add(&mut self, leaf: Hash) -> u64 {
        self.0.push(leaf);
        self.size() - 1
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }

    /// The index of a leaf that is already there.
    pub fn find(&self, leaf: &Hash) -> Option<u64> {
        self.0.iter().position(|l| l == leaf).map(|i| i as u64)
    }

    /// The root of the whole tree.
    pub fn root(&self) -> Hash {
        root(&self.0)
    }

    /// The hashes that lead from the leaf at `index` to the root, lowest first.
    pub fn inclusion_proof(&self, index: u64) -> Vec<Hash> {
        let mut proof = Vec::new();
        path(&self.0, index as usize, &mut proof);
        proof
    }
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

fn path(leaves: &[Hash], index: usize, proof: &mut Vec<Hash>) {
    if leaves.len() < 2 {
        return;
    }
    let split = split(leaves.len());
    let (left, right) = leaves.split_at(split);
    if index < split {
        path(left, index, proof);
        proof.push(root(right));
    } else {
        path(right, index - split, proof);
        proof.push(root(left));
    }
}

/// The largest power of two smaller than `size`.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The leaves and the roots of the reference tests of Certificate Transparency.
    #[test]
    fn roots_are_those_of_the_reference_tests() {
        assert_eq!(
            hex(&Tree::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let leaves: [(&[u8], &str); 8] = [
            (b"", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (b"\x00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (b"\x10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (b"\x20\x21", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
            (b"\x30\x31", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (b"\x40\x41\x42\x43", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
            (
                b"\x50\x51\x52\x53\x54\x55\x56\x57",
                "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            ),
            (
                b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
                "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
            ),
        ];
        let mut tree = Tree::default();
        for (leaf, root) in leaves {
            tree.add(leaf_hash(leaf));
            assert_eq!(hex(&tree.root()), root, "size {}", tree.size());
        }
    }

    /// Verifies from the leaf up, bit by bit of index and size (RFC 9162, section 2.1.3.2), and
    /// so shares no step with the recursion that makes the proofs.
    fn verifies(index: u64, size: u64, leaf: Hash, proof: &[Hash], root: Hash) -> bool {
        if index >= size {
            return false;
        }
        let (mut node, mut last, mut hash) = (index, size - 1, leaf);
        for sibling in proof {
            if last == 0 {
                return false;
            }
            let mut input = vec![1];
            if node & 1 == 1 || node == last {
                input.extend(sibling);
                input.extend(hash);
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                input.extend(hash);
                input.extend(sibling);
            }
            hash = sha256(&input);
            node >>= 1;
            last >>= 1;
        }
        last == 0 && hash == root
    }

    #[test]
    fn every_inclusion_proof_verifies_and_no_other() {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        for size in 1..=70_u64 {
            let leaf = leaf_hash(&size.to_be_bytes());
            leaves.push(leaf);
            tree.add(leaf);
            let root = tree.root();
            for (index, leaf) in (0..).zip(&leaves) {
                let proof = tree.inclusion_proof(index);
                assert!(verifies(index, size, *leaf, &proof, root), "{index} of {size}");
                assert!(
                    !verifies(index, size, leaf_hash(b"other"), &proof, root),
                    "{index} of {size}, another leaf"
                );
                if size > 1 {
                    assert!(
                        !verifies((index + 1) % size, size, *leaf, &proof, root),
                        "{index} of {size}, another index"
                    );
                }
                assert_eq!(tree.find(leaf), Some(index));
            }
        }
    }
}
