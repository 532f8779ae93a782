//! How the memory of a relay pod is divided: the one place where the sum is made. Pure.
//!
//! | for | in a pod of 512 MiB | bounded by |
//! |---|---|---|
//! | content of messages on their way in and out | 256 MiB: [`CONTENT_BYTES`] | `limits.memoryBytes`, of which [`usable`] is handed out: 208 MiB |
//! | the index of the queue and the schedule | 128 MiB: [`INDEX_BYTES`] | `limits.indexBytes`: how much may be queued |
//! | program, threads, the buffer in which mail is on its way to the disk, and 4 MiB for remembered answers of the DNS | 32 MiB: [`PROGRAM_BYTES`] | what they are |
//! | connections of clients | the rest: 96 MiB | `limits.connections`, each with what the API says that one takes at most |
//!
//! What a larger pod has beyond what its connections may take is for the index.
//!
//! What is handed out for content is less than what content may cost: it is counted in bytes of buffers, and beside them are those
//! that were just outgrown, and the copy of a large message that is on its way to the disk. Measured with eight clients that send up to
//! 49 MiB each without pause: 257 MiB resident, the program included, if the allocator gives freed memory back at once, which the image asks
//! for (`MIMALLOC_PURGE_DELAY=0`, at no measurable cost per message); 360 MiB if it does not.
//!
//! Of what is handed out a quarter is for delivery
//! alone ([`for_delivery`]: 52 MiB, an eighth of that for small mail), so that mail goes out however much comes in. That leaves 156 MiB to receive: the
//! largest message that the API allows fits.

/// What content may cost, in bytes, if nothing else is written.
pub const CONTENT_BYTES: u64 = 256 << 20;

/// Most memory for what is kept of queued mail, in bytes.
pub const INDEX_BYTES: u64 = 128 << 20;

/// For the program itself, in bytes.
pub const PROGRAM_BYTES: u64 = 32 << 20;

/// How much is handed out where content may cost so many bytes: 13 parts of 16.
#[must_use]
pub const fn usable(content_bytes: u64) -> u64 {
    content_bytes / 16 * 13
}

/// How much of what is handed out is for delivery alone: a quarter.
#[must_use]
pub const fn for_delivery(usable_bytes: u64) -> u64 {
    usable_bytes / 4
}

/// The largest message that can come in where content may cost so many bytes, its envelope apart.
#[must_use]
pub const fn message_max(content_bytes: u64) -> u64 {
    let usable = usable(content_bytes);
    usable - for_delivery(usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    /// A thousand recipients.
    const ENVELOPE_BYTES: u64 = 1 << 20;

    #[test]
    fn a_message_of_the_default_size_fits_in_half_of_the_part_for_receiving() {
        let limits = Limits::default();
        let message_bytes = limits.message_bytes + ENVELOPE_BYTES;
        assert!(message_max(limits.memory_bytes) / 2 >= message_bytes);
    }
}
