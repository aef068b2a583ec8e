//! The tensors of a checkpoint as its headers name them, before anything is known of the model's layers.
//!
//! In: one tensor after another, from any number of headers. Out: a table in which the experts of a layer are one row,
//! small enough to be kept on disk, and from it the [`TensorGroup`]s of [`super::Weights`] once the number of decoder
//! layers is known.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{DType, TensorGroup, names};

/// Stored bytes of a checkpoint above which its headers are not believed (8 PiB). Under it no count of bytes or
/// elements can overflow.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 53;

/// Tensors that differ in their expert index only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// Name in the checkpoint, expert indices replaced by `*`.
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    /// Stored bytes of one tensor.
    bytes: u64,
    count: u64,
}

/// The tensors of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensors {
    rows: Vec<Row>,
    /// Row of each name with experts in it.
    experts: HashMap<String, usize>,
    /// Stored bytes of all rows.
    bytes: u64,
}

impl Tensors {
    /// No tensor at all.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds `count` tensors of `bytes` stored bytes each. The error is what is wrong with them.
    pub fn add(&mut self, name: &str, dtype: DType, shape: Vec<u64>, bytes: u64, count: u64) -> Result<(), String> {
        let elements = shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side));
        // No type stores an element in less than a bit.
        if elements.is_none_or(|elements| elements > bytes.saturating_mul(8)) {
            return Err(format!("its shape {shape:?} does not fit into its {bytes} bytes"));
        }
        self.push(Row { name: with_experts_starred(name).into_owned(), dtype, shape, bytes, count })
    }

    /// Adds the tensors of another file of the same checkpoint. The error is what is wrong with them.
    pub fn merge(&mut self, other: Self) -> Result<(), String> {
        other.rows.into_iter().try_for_each(|row| self.push(row))
    }

    fn push(&mut self, row: Row) -> Result<(), String> {
        self.bytes = row
            .bytes
            .checked_mul(row.count)
            .and_then(|bytes| bytes.checked_add(self.bytes))
            .filter(|&bytes| bytes <= CHECKPOINT_BYTES_MAX && u32::try_from(row.count).is_ok())
            .ok_or_else(|| format!("the checkpoint claims to hold more than {CHECKPOINT_BYTES_MAX} bytes"))?;
        if !row.name.contains(".*.") {
            self.rows.push(row);
            return Ok(());
        }
        if let Some(&index) = self.experts.get(&row.name) {
            let known = &mut self.rows[index];
            if known.shape == row.shape && known.dtype == row.dtype && known.bytes == row.bytes {
                known.count += row.count;
                return Ok(());
            }
        }
        self.experts.insert(row.name.clone(), self.rows.len());
        self.rows.push(row);
        Ok(())
    }

    /// The table as JSON, for [`Self::from_json`].
    pub(super) fn to_json(&self) -> Vec<u8> {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| (&row.name, row.dtype.safetensors_name(), &row.shape, row.bytes, row.count))
            .collect();
        serde_json::to_vec(&rows).unwrap_or_default()
    }

    /// The table that [`Self::to_json`] wrote; `None` if it is not one.
    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        /// Name, type, shape, bytes and count.
        #[derive(serde::Deserialize)]
        struct Stored<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>, Vec<u64>, u64, u64);

        let rows: Vec<Stored<'_>> = serde_json::from_slice(json).ok()?;
        let mut tensors = Self::default();
        for Stored(name, dtype, shape, bytes, count) in rows {
            tensors.add(&name, DType::from_safetensors(&dtype), shape, bytes, count).ok()?;
        }
        Some(tensors)
    }

    /// The tensors by part of a model with `decoder_layers` layers.
    pub fn groups(&self, decoder_layers: u32) -> Vec<TensorGroup> {
        self.rows
            .iter()
            .map(|row| {
                let (part, module) = names::locate(&row.name, decoder_layers);
                TensorGroup {
                    part,
                    module: module.to_owned(),
                    shape: row.shape.clone(),
                    dtype: row.dtype,
                    count: row.count,
                    bytes: row.bytes,
                }
            })
            .collect()
    }
}

/// `mlp.experts.17.down_proj.weight` as `mlp.experts.*.down_proj.weight`.
fn with_experts_starred(name: &str) -> Cow<'_, str> {
    const EXPERTS: &str = ".experts.";
    let Some(start) = name.find(EXPERTS).map(|position| position + EXPERTS.len()) else { return Cow::Borrowed(name) };
    let digits = name[start..].bytes().take_while(u8::is_ascii_digit).count();
    match name[start + digits..].strip_prefix('.') {
        Some(rest) if digits > 0 => Cow::Owned(format!("{}*.{rest}", &name[..start])),
        _ => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_expert_indices_are_starred() {
        for (name, starred) in [
            ("layers.0.mlp.experts.17.up_proj.weight", "layers.0.mlp.experts.*.up_proj.weight"),
            ("layers.0.block_sparse_moe.experts.0.w1.weight", "layers.0.block_sparse_moe.experts.*.w1.weight"),
            ("layers.0.mlp.experts.gate_up_proj", "layers.0.mlp.experts.gate_up_proj"),
            ("layers.0.mlp.shared_experts.up_proj.weight", "layers.0.mlp.shared_experts.up_proj.weight"),
            ("layers.0.mlp.experts.1", "layers.0.mlp.experts.1"),
        ] {
            assert_eq!(with_experts_starred(name), starred);
        }
    }

    #[test]
    fn experts_of_another_shape_are_another_group() {
        let mut tensors = Tensors::default();
        for (expert, side) in [(0, 2), (1, 2), (2, 4)] {
            tensors.add(&format!("x.experts.{expert}.w"), DType::U8, vec![side], side, 1).unwrap();
        }
        let counts: Vec<_> = tensors.groups(0).iter().map(|group| (group.shape[0], group.count)).collect();
        assert_eq!(counts, [(2, 2), (4, 1)]);
    }

    #[test]
    fn no_count_can_overflow() {
        let mut tensors = Tensors::default();
        assert!(tensors.add("x", DType::Other, vec![u64::MAX, 2], 1, 1).is_err());
        assert!(tensors.add("x", DType::Other, vec![9], 1, 1).is_err());
        assert!(tensors.add("x", DType::U8, vec![], u64::MAX, u64::MAX).is_err());
        assert!(tensors.add("x", DType::U8, vec![], 0, u64::MAX).is_err());
        tensors.add("x", DType::U8, vec![], CHECKPOINT_BYTES_MAX, 1).unwrap();
        assert!(tensors.add("x", DType::U8, vec![], 1, 1).is_err());
    }
}
