//! What is measured where the user leaves a choice open, and where there is more than one.

use crate::cli::Command;
use crate::cpus::Cpus;
use crate::fault::Failure;
use crate::task::{Bench, Calls, Carries, Wait};

/// The loads that are offered, in percent of the capacity.
const SHARES: [f64; 11] = [5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 90.0, 100.0, 110.0, 120.0, 150.0];

/// Each of some with each of others.
pub fn crossed<A: Copy, B: Copy>(some: &[A], others: &[B]) -> Vec<(A, B)> {
    some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))).collect()
}

/// The ways to call that a command asks for.
pub fn calls(command: Option<&Command>) -> Result<Vec<Option<Calls>>, Failure> {
    let or = |asked: &[u64], usual: &[u64]| -> Vec<usize> {
        let numbers = if asked.is_empty() { usual } else { asked };
        numbers.iter().map(|number| *number as usize).collect()
    };
    let mut all = Vec::new();
    match command {
        Some(Command::Rate { window, batch }) => {
            let batches = or(batch, &[1, 8]);
            for (window, batch) in crossed(&or(window, &[1, 8, 64]), &batches) {
                all.push(Calls { window, batch, ..Calls::default() });
            }
            all.retain(|calls| calls.batch <= calls.window);
            if all.is_empty() {
                let sentence = "A batch has no more calls than are under way: give a lower --batch, \
                                or a higher --window.";
                return Err(Failure::Usage(sentence.to_owned()));
            }
        }
        Some(Command::Bandwidth { window, carries, in_place }) => {
            let usual = [Carries::Request, Carries::Response];
            let carries = if carries.is_empty() { &usual[..] } else { carries };
            for (window, carries) in crossed(&or(window, &[1]), carries) {
                let in_place = *in_place && carries == Carries::Response;
                all.push(Calls { window, carries, in_place, ..Calls::default() });
            }
        }
        Some(Command::Beside { flows, window, carries }) => {
            let flows: Vec<_> = flows.iter().map(|&flows| flows as usize).collect();
            for (&carries, flows) in
                carries.iter().flat_map(|it| flows.iter().map(move |n| (it, *n)))
            {
                all.push(Calls { window: *window as usize, carries, flows, ..Calls::default() });
            }
        }
        Some(Command::Sweep { window, .. }) => {
            all.push(Calls { window: *window as usize, ..Calls::default() });
        }
        _ => return Ok(vec![None]),
    }
    Ok(all.into_iter().map(Some).collect())
}

/// The loads from one share to another, both among them.
pub fn shares(from: f64, up_to: f64) -> Result<Vec<f64>, Failure> {
    if from > up_to {
        return Err(Failure::Usage("--from is more than --up-to.".to_owned()));
    }
    let mut shares = vec![from, up_to];
    shares.extend(SHARES.into_iter().filter(|share| (from..=up_to).contains(share)));
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    Ok(shares)
}

/// The sizes that are measured where none is asked for.
pub fn sizes(bench: Bench) -> &'static [usize] {
    match bench {
        Bench::NullRpc | Bench::Scale => &[0],
        Bench::Rtt => &[8, 4 << 10, 64 << 10],
        Bench::Rate => &[8],
        Bench::Bandwidth => &[4 << 10, 64 << 10, 1 << 20],
        Bench::Sweep => &[64],
        Bench::Beside => &[1 << 20],
        Bench::Fbuf => &[64, 4 << 10, 64 << 10, 1 << 20, 4 << 20, 16 << 20],
    }
}

/// The ways of waiting that are measured where none is asked for.
pub fn waits(bench: Bench, cpus: Cpus) -> &'static [Wait] {
    match (bench, cpus.same_core()) {
        // A null call shows what sleeping costs, too.
        (Bench::NullRpc, false) => &[Wait::Spin, Wait::Park],
        (Bench::NullRpc, true) => &[Wait::Adaptive, Wait::Park],
        (_, false) => &[Wait::Spin],
        (_, true) => &[Wait::Adaptive],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &Command) -> Vec<(usize, usize, Carries)> {
        let all = calls(Some(command)).unwrap_or_default().into_iter().flatten();
        all.map(|calls| (calls.window, calls.batch, calls.carries)).collect()
    }

    #[test]
    fn every_window_has_every_batch_that_fits_into_it() {
        let both = |(window, batch)| (window, batch, Carries::Both);
        let usual = Command::Rate { window: vec![], batch: vec![] };
        assert_eq!(asked(&usual), [(1, 1), (8, 1), (8, 8), (64, 1), (64, 8)].map(both));
        let named = Command::Rate { window: vec![4, 64], batch: vec![32] };
        assert_eq!(asked(&named), [(64, 32)].map(both));
        let none = calls(Some(&Command::Rate { window: vec![4], batch: vec![8] }));
        let Err(Failure::Usage(why)) = none else { panic!("a batch larger than its window") };
        assert!(why.contains("--batch") && why.contains("--window"), "{why}");
    }

    #[test]
    fn bytes_go_in_either_part_of_a_call() {
        let (request, response) = (Carries::Request, Carries::Response);
        let usual = Command::Bandwidth { window: vec![], carries: vec![], in_place: false };
        assert_eq!(asked(&usual), [(1, 1, request), (1, 1, response)]);
        let named =
            Command::Bandwidth { window: vec![2, 3], carries: vec![response], in_place: true };
        assert_eq!(asked(&named), [(2, 1, response), (3, 1, response)]);
    }

    #[test]
    fn a_call_stands_beside_no_flows_and_some() {
        let asked =
            Command::Beside { flows: vec![0, 2], window: 3, carries: vec![Carries::Response] };
        let all = calls(Some(&asked)).unwrap_or_default().into_iter().flatten();
        let all: Vec<_> = all.map(|it| (it.flows, it.window, it.batch, it.carries)).collect();
        assert_eq!(all, [(0, 3, 1, Carries::Response), (2, 3, 1, Carries::Response)]);
    }

    #[test]
    fn loads_go_from_one_share_to_the_other() {
        assert_eq!(shares(90.0, 200.0).ok(), Some(vec![90.0, 100.0, 110.0, 120.0, 150.0, 200.0]));
        assert!(shares(20.0, 10.0).is_err());
    }
}
