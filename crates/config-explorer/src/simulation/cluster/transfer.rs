//! KV caches on their way between engines: links that transfers share.

use super::config::KvTransfer;
use super::requests::LiveId;
use crate::simulation::NS_PER_S;

/// A transfer while it uses links.
#[derive(Debug, Clone)]
struct Transfer {
    live: LiveId,
    from: u32,
    to: u32,
    bytes_left: f64,
    bytes_per_ns: f64,
    /// When it leaves the links, if nothing changes, ns.
    end: u64,
}

/// All transfers that use links. Their number is small: every start and end looks at all.
#[derive(Debug)]
pub(super) struct Links {
    kv: KvTransfer,
    transfers: Vec<Transfer>,
    /// Transfers that each replica sends and receives.
    sending: Vec<u32>,
    receiving: Vec<u32>,
    /// The time up to which the bytes are counted, ns.
    now: u64,
    next: u64,
}

impl Links {
    pub(super) fn new(kv: KvTransfer, replicas: usize) -> Self {
        let none = vec![0; replicas];
        Self { kv, transfers: Vec::new(), sending: none.clone(), receiving: none, now: 0, next: u64::MAX }
    }

    /// When a transfer leaves the links next, ns; `u64::MAX` if there is none.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Nanoseconds of a transfer beyond its time on the links.
    pub(super) fn base_ns(&self) -> u64 {
        (self.kv.base_latency_s * NS_PER_S) as u64
    }

    pub(super) fn start(&mut self, live: LiveId, from: u32, to: u32, tokens: u32, now: u64) {
        self.advance(now);
        let bytes_left = f64::from(tokens) * self.kv.bytes_per_token;
        self.transfers.push(Transfer { live, from, to, bytes_left, bytes_per_ns: 0.0, end: now });
        self.sending[from as usize] += 1;
        self.receiving[to as usize] += 1;
        self.share();
    }

    /// Takes a transfer off the links that has left them by `now`.
    pub(super) fn take_done(&mut self, now: u64) -> Option<LiveId> {
        if self.next > now {
            return None;
        }
        let at = self.transfers.iter().position(|transfer| transfer.end <= now)?;
        Some(self.remove(at, now))
    }

    /// Ends the transfer of a request, if it has one.
    pub(super) fn cancel(&mut self, live: LiveId, now: u64) {
        if let Some(at) = self.transfers.iter().position(|transfer| transfer.live == live) {
            self.remove(at, now);
        }
    }

    fn remove(&mut self, at: usize, now: u64) -> LiveId {
        self.advance(now);
        let Transfer { live, from, to, .. } = self.transfers.remove(at);
        self.sending[from as usize] -= 1;
        self.receiving[to as usize] -= 1;
        self.share();
        live
    }

    fn advance(&mut self, now: u64) {
        let ns = (now - self.now) as f64;
        for transfer in &mut self.transfers {
            // Without end is without time.
            transfer.bytes_left =
                if transfer.end <= now { 0.0 } else { transfer.bytes_left - transfer.bytes_per_ns * ns };
        }
        self.now = now;
    }

    fn share(&mut self) {
        let bandwidth = self.kv.bandwidth_bytes_per_s / NS_PER_S;
        self.next = u64::MAX;
        for transfer in &mut self.transfers {
            let sharers = self.sending[transfer.from as usize].max(self.receiving[transfer.to as usize]);
            transfer.bytes_per_ns = bandwidth / f64::from(sharers);
            let ns = (transfer.bytes_left.max(0.0) / transfer.bytes_per_ns).ceil();
            transfer.end = self.now.saturating_add(ns as u64);
            self.next = self.next.min(transfer.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_share_the_links_at_both_ends() {
        let kv = KvTransfer { bytes_per_token: 100.0, bandwidth_bytes_per_s: 1e9, base_latency_s: 0.001 };
        let mut links = Links::new(kv, 4);
        // 0 to 2 alone: 10,000 ns. At 4,000 a second one from 0 joins, to 3: both go at half.
        links.start(7, 0, 2, 100, 0);
        assert_eq!(links.next(), 10_000);
        links.start(8, 0, 3, 100, 4_000);
        assert_eq!(links.next(), 4_000 + 12_000);
        // 1 to 3 shares the receiver with the second one, which was at half already.
        links.start(9, 1, 3, 10, 4_000);
        assert_eq!(links.next(), 4_000 + 2_000);
        assert_eq!(links.take_done(5_999), None);
        assert_eq!((links.take_done(6_000), links.take_done(6_000)), (Some(9), None));
        assert_eq!((links.next(), links.take_done(16_000)), (16_000, Some(7)));
        // 4,000 bytes of the second one are left, alone.
        assert_eq!(links.next(), 20_000);
        links.cancel(8, 17_000);
        assert_eq!((links.next(), links.base_ns()), (u64::MAX, 1_000_000));
    }

    #[test]
    fn without_limit_it_takes_no_time() {
        let kv = KvTransfer { bytes_per_token: 1.0, bandwidth_bytes_per_s: f64::INFINITY, base_latency_s: 0.0 };
        let mut links = Links::new(kv, 2);
        links.start(0, 0, 1, 1000, 5);
        links.start(1, 0, 1, 1000, 5);
        assert_eq!((links.take_done(5), links.take_done(5), links.take_done(5)), (Some(0), Some(1), None));
    }
}
