//! Kubernetes quantities, as far as sizes need them.

/// Bytes of a size such as `50Mi`, `10M` or `1000000`: what the CEL rules of the API let through.
/// `None` for anything else, fractions and exponents included.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_nothing_else() {
        for (text, expected) in [
            ("1", Some(1)),
            ("50Mi", Some(50 << 20)),
            ("10M", Some(10_000_000)),
            ("999999999999Ti", None),
            ("1.5Gi", None),
            ("Mi", None),
            ("", None),
            ("1e3", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
