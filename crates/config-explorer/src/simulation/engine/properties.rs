//! Properties over random workloads, settings and rules; the numbers are those of `docs/invariants.md`.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::engine::SchedulerRules;

/// An engine and the world around it. The clock counts iterations of the step loop.
#[derive(Clone)]
struct World {
    scheduler: Scheduler,
    flights: VecDeque<Batch>,
    arrivals: VecDeque<Arrival>,
    /// Iteration and request, the next one last.
    aborts: Vec<(u32, usize)>,
    /// Slot and iteration of the end of a transfer.
    loads: Vec<(RequestId, u32)>,
    holds: Vec<(RequestId, u32)>,
    slots: Vec<Option<RequestId>>,
    now: u32,
    transfer_steps: u32,
    checks: bool,
    log: Vec<Event>,
    /// Requests of all batches.
    batches: Vec<Vec<Scheduled>>,
    /// Tokens of all outputs, and requests that got them.
    outputs: Vec<(u32, u32)>,
}

#[derive(Debug, Clone)]
struct Arrival {
    step: u32,
    prompt: Vec<Segment>,
    output_id: u32,
    max_tokens: u32,
    stop_at: Option<u32>,
    priority: i32,
    transfers: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Admitted(u32, Admission),
    Preempted(u32, RequestId),
    First(u32, RequestId),
    Late(u32, Late),
    Finished(u32, Finished),
}

#[derive(Debug, Clone)]
struct Case {
    config: SchedulerConfig,
    rules: SchedulerRules,
    arrivals: Vec<Arrival>,
    aborts: Vec<(u32, usize)>,
    transfer_steps: u32,
}

impl World {
    fn new(case: &Case) -> Self {
        let mut aborts = case.aborts.clone();
        aborts.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            scheduler: Scheduler::new(case.config.clone(), case.rules).unwrap(),
            flights: VecDeque::new(),
            arrivals: case.arrivals.clone().into(),
            aborts,
            loads: Vec::new(),
            holds: Vec::new(),
            slots: Vec::new(),
            now: 0,
            transfer_steps: case.transfer_steps,
            checks: true,
            log: Vec::new(),
            batches: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.arrivals.is_empty()
            && self.flights.iter().all(|batch| batch.num_tokens == 0)
            && self.slots.iter().all(Option::is_none)
            && self.loads.is_empty()
            && self.holds.is_empty()
    }

    /// What the outside does before an iteration begins.
    fn let_in(&mut self) {
        while self.arrivals.front().is_some_and(|arrival| arrival.step <= self.now) {
            let arrival = self.arrivals.pop_front().unwrap();
            let consumes = self.scheduler.config.consumes_kv();
            let produces = self.scheduler.config.produces_kv();
            let id = self.scheduler.add_request(&NewRequest {
                stop_at: arrival.stop_at,
                priority: arrival.priority,
                arrival: u64::from(arrival.step),
                remote_prefill: arrival.transfers && consumes,
                remote_decode: arrival.transfers && produces,
                ..NewRequest::new(&arrival.prompt, arrival.output_id, arrival.max_tokens)
            });
            self.slots.push(Some(id.unwrap()));
        }
        while self.aborts.last().is_some_and(|&(step, _)| step <= self.now) {
            let (_, request) = self.aborts.pop().unwrap();
            if let Some(slot) = self.slots.get(request).copied().flatten()
                && let Some(finished) = self.scheduler.abort(slot)
            {
                self.slots[request] = None;
                self.log.push(Event::Finished(self.now, finished));
            }
        }
    }

    fn iterate(&mut self) {
        let mut batch = Batch::default();
        self.scheduler.schedule(&mut batch);
        self.check();
        self.log.extend(batch.admitted.iter().map(|&admission| Event::Admitted(self.now, admission)));
        self.log.extend(batch.preempted.iter().map(|&id| Event::Preempted(self.now, id)));
        self.loads.extend(batch.loads.iter().map(|load| (load.id, self.now + self.transfer_steps)));
        self.batches.push(self.scheduler.expand(&batch));
        let in_flight = self.flights.iter().any(|batch| batch.num_tokens > 0);
        let idle = batch.num_tokens == 0 && !in_flight && self.loads.is_empty() && self.holds.is_empty();
        let unfinished = self.scheduler.num_waiting() + self.scheduler.running().len();
        // A Mamba state written in a step can be hit in the next only; a load may have ended in this iteration.
        let excused = !batch.preempted.is_empty() || self.scheduler.kv.groups.len() > 1;
        assert!(!idle || unfinished == 0 || excused, "INV-5: nothing runs though {unfinished} requests wait");
        self.flights.push_back(batch);
        if self.scheduler.processes_next(self.flights.len(), self.flights.back().unwrap()) {
            let batch = self.flights.pop_front().unwrap();
            let mut output = StepOutput::default();
            // Any pattern that depends on nothing but the request's progress.
            let accepted = |part: &Scheduled| (part.context + part.id) % (part.drafts + 1);
            self.scheduler.process_output(&batch, u64::from(self.now), accepted, &mut output);
            self.outputs.push((output.num_tokens, output.num_requests));
            self.log.extend(output.late.iter().map(|&late| Event::Late(self.now, late)));
            self.log.extend(output.first_tokens.iter().map(|&id| Event::First(self.now, id)));
            for &finished in &output.finished {
                self.log.push(Event::Finished(self.now, finished));
                if let Some(slot) = self.slots.iter_mut().find(|slot| **slot == Some(finished.id)) {
                    *slot = None;
                }
                if finished.held {
                    self.holds.push((finished.id, self.now + self.transfer_steps));
                }
            }
            self.check();
            let now = self.now;
            for (id, _) in self.loads.extract_if(.., |&mut (_, end)| end <= now) {
                self.scheduler.finish_load(id);
            }
            for (id, _) in self.holds.extract_if(.., |&mut (_, end)| end <= now) {
                self.scheduler.release(id);
            }
            self.check();
        }
        self.now += 1;
    }

    fn check(&self) {
        if self.checks {
            self.scheduler.check_invariants();
        }
    }

    fn run(&mut self) {
        while !self.is_done() {
            self.let_in();
            self.iterate();
            assert!(self.now < 50_000, "INV-5: requests never finish");
        }
    }

    /// Iterations until the outside does something that a run cannot absorb.
    fn quiet_steps(&self, absorbs_arrivals: bool) -> u32 {
        let arrival = self.arrivals.front().filter(|_| !absorbs_arrivals).map(|arrival| arrival.step);
        let abort = self.aborts.last().map(|&(step, _)| step);
        let transfer = self.loads.iter().chain(&self.holds).map(|&(_, end)| end).min();
        let next = arrival.into_iter().chain(abort).chain(transfer).min().unwrap_or(u32::MAX);
        next.saturating_sub(self.now)
    }

    /// The state without what has no meaning between steps, and with nobody cruising.
    fn state(&self) -> Scheduler {
        let mut state = self.scheduler.clone();
        state.set_exact(true);
        state.left.clear();
        state.refused = None;
        state.all_cruised = false;
        state.capacity_bound = false;
        state.kv.hits.iter_mut().for_each(Vec::clear);
        state
    }
}

prop_compose! {
    fn arrival()(
        gap in prop_oneof![3 => Just(0u32), 2 => 0u32..12, 1 => 20u32..60],
        shared in prop_oneof![Just(0u32), 1u32..90],
        text in 1u32..4,
        own in 1u32..60,
        constant_output in prop::bool::weighted(0.3),
        max_tokens in prop_oneof![1u32..8, 1u32..80],
        stop_at in prop::option::weighted(0.3, 1u32..40),
        priority in 0i32..3,
        transfers: bool,
    ) -> (u32, u32, u32, u32, bool, Arrival) {
        let arrival = Arrival { step: 0, prompt: Vec::new(), output_id: 0, max_tokens, stop_at, priority, transfers };
        (gap, shared, text, own, constant_output, arrival)
    }
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    prop::collection::vec(arrival(), 1..24).prop_map(|arrivals| {
        let mut step = 0;
        let finish =
            |(number, (gap, shared, text, own, constant, arrival)): (u32, (u32, u32, u32, u32, bool, Arrival))| {
                step += gap;
                let unique = 100 + 2 * number;
                let prompt = vec![
                    Segment { id: text, start: 0, len: shared },
                    Segment {
                        id: [text, Segment::CONSTANT, unique, unique][own as usize % 4],
                        start: shared,
                        len: own,
                    },
                ];
                Arrival { step, prompt, output_id: if constant { Segment::CONSTANT } else { unique + 1 }, ..arrival }
            };
        (0..).zip(arrivals).map(finish).collect()
    })
}

/// Flags of every combination, not only of versions that exist: each is a behaviour of its own.
fn rules() -> impl Strategy<Value = SchedulerRules> {
    prop_oneof![
        prop::sample::select(vec!["0.19.1", "0.24.0", "0.27.1", "0.33.0"])
            .prop_map(|version| crate::engine::EngineRules::of(version.parse().unwrap()).unwrap().scheduler),
        any::<[bool; 15]>().prop_map(|flags| SchedulerRules {
            unhashed_blocks_freed_first: flags[0],
            empty_batches_queued: flags[1],
            window_admission_cap: flags[2],
            threshold_spares_lone_request: flags[3],
            priority_pass_continues: flags[4],
            hash_covers_next_token: flags[5],
            lookahead_on_admission: flags[6],
            pads_admitted_decode: flags[7],
            stale_output_tracked: flags[8],
            skipped_blocks_by_processed_tokens: flags[9],
            processed_tokens_cached: flags[10],
            loads_reserve_prefills: flags[11],
            blocked_requests_first: flags[12],
            in_flight_blocks_freed_late: flags[13],
            mamba_prefill_stops: flags[14],
            admission_settings: true,
        }),
    ]
}

prop_compose! {
    /// Settings under which every request of [`arrivals`] fits alone: 230 tokens and 4 of lookahead.
    fn config()(
        (max_num_seqs, max_num_batched_tokens) in (1u32..10, prop_oneof![Just(8u32), 16u32..40, 40u32..300]),
        block_size in prop::sample::select(vec![1u32, 3, 8, 16]),
        spare in 0u32..200,
        (enable_prefix_caching, scheduler_reserve_full_isl, async_scheduling) in any::<(bool, bool, bool)>(),
        chunked in prop::bool::weighted(0.9),
        threshold in prop_oneof![3 => Just(0u32), 1 => 4u32..40],
        policy in prop::sample::select(vec![Policy::Fcfs, Policy::Fcfs, Policy::Priority]),
        interval in prop_oneof![4 => Just(1u32), 1 => 2u32..5],
        watermark in prop_oneof![4 => Just(0.0), 1 => 0.0..0.3],
        kv_role in prop::option::weighted(0.4, prop::sample::select(vec![KvRole::Producer, KvRole::Consumer, KvRole::Both])),
    ) -> SchedulerConfig {
        SchedulerConfig {
            max_model_len: 400,
            max_num_seqs,
            max_num_batched_tokens: if chunked { max_num_batched_tokens } else { 300 },
            block_size,
            num_gpu_blocks: 234u32.div_ceil(block_size) + 2 + spare.div_ceil(block_size),
            kv_groups: vec![KvGroup { attention: GroupAttention::Full, block_size }],
            enable_prefix_caching,
            enable_chunked_prefill: chunked,
            long_prefill_token_threshold: threshold,
            policy,
            async_scheduling,
            pipeline_parallel_size: 1,
            scheduler_reserve_full_isl,
            watermark,
            prefill_schedule_interval: interval,
            speculation: None,
            kv_role,
        }
    }
}

/// Adds at most one of: speculation, more KV groups, pipeline stages.
fn with_feature(config: SchedulerConfig, feature: u32, size: u32) -> SchedulerConfig {
    let full = config.kv_groups[0];
    let group = |attention| KvGroup { attention, ..full };
    let block_size = config.block_size;
    let blocks = config.num_gpu_blocks;
    match feature {
        0 => SchedulerConfig { speculation: Some(Speculation { num_tokens: 1 + size % 4, eagle: size > 8 }), ..config },
        1 => SchedulerConfig {
            kv_groups: vec![full, group(GroupAttention::SlidingWindow { window: 2 + 3 * size })],
            num_gpu_blocks: 2 * blocks,
            ..config
        },
        2 => SchedulerConfig {
            kv_groups: vec![full, group(GroupAttention::ChunkedLocal { chunk: block_size * (1 + size % 5) }), full],
            num_gpu_blocks: 3 * blocks,
            ..config
        },
        3 => SchedulerConfig {
            kv_groups: vec![full, group(GroupAttention::Mamba { aligned: true, speculative_blocks: 0 })],
            // A chunk must reach the next block edge.
            long_prefill_token_threshold: 0,
            max_num_batched_tokens: config.max_num_batched_tokens.max(block_size),
            enable_prefix_caching: true,
            num_gpu_blocks: 2 * blocks,
            ..config
        },
        4 => SchedulerConfig { async_scheduling: false, pipeline_parallel_size: 2 + size % 3, ..config },
        _ => config,
    }
}

fn case(config: impl Strategy<Value = SchedulerConfig>) -> impl Strategy<Value = Case> {
    let aborts = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec((0u32..120, 0usize..24), 1..4)];
    (config, rules(), arrivals(), aborts, 1u32..8).prop_map(|(mut config, rules, arrivals, aborts, transfer_steps)| {
        if !rules.admission_settings {
            config.watermark = 0.0;
            config.prefill_schedule_interval = 1;
        }
        if config.policy == Policy::Priority && !rules.blocked_requests_first {
            // vLLM up to 0.32 can lock up: a preempted request is the head of the queue, and its blocks are held by
            // loaded requests behind it.
            config.kv_role = config.kv_role.map(|_| KvRole::Producer);
        }
        Case { config, rules, arrivals, aborts, transfer_steps }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// INV-1 to INV-5 and INV-7 after every half step; INV-6: a second run is equal to the last bit.
    #[test]
    fn invariants_hold(
        case in case((config(), 0u32..8, 0u32..20).prop_map(|(config, feature, size)| with_feature(config, feature, size)))
    ) {
        let mut world = World::new(&case);
        world.run();
        prop_assert_eq!(world.scheduler.num_free_blocks(), case.config.num_gpu_blocks - 1, "INV-2: all blocks are back");
        let mut again = World { checks: false, ..World::new(&case) };
        again.run();
        prop_assert_eq!(&world.log, &again.log, "INV-6");
        prop_assert_eq!(&world.scheduler, &again.scheduler, "INV-6");
    }

    /// INV-9: steps that leave cruising requests alone give the batches, events and state of steps that touch all.
    #[test]
    fn cruising_changes_nothing(case in case(config())) {
        let mut exact = World { checks: false, ..World::new(&case) };
        exact.scheduler.set_exact(true);
        let mut fast = World::new(&case);
        while !fast.is_done() {
            for world in [&mut exact, &mut fast] {
                world.let_in();
                world.iterate();
            }
            prop_assert_eq!(exact.state(), fast.state());
            prop_assert!(fast.now < 50_000);
        }
        prop_assert_eq!(exact.batches, fast.batches);
        prop_assert_eq!(exact.outputs, fast.outputs);
        prop_assert_eq!(exact.log, fast.log);
    }

    /// INV-9: runs of decode steps give the state and the events of single steps.
    #[test]
    fn decode_runs_equal_single_steps(case in case(config()), cuts in prop::collection::vec(1u32..40, 1..8)) {
        let mut single = World { checks: false, ..World::new(&case) };
        let mut fast = single.clone();
        single.scheduler.set_exact(true);
        let mut cuts = cuts.into_iter().cycle();
        while !fast.is_done() {
            fast.let_in();
            let run = fast.scheduler.decode_run();
            let wanted = run.steps.min(fast.quiet_steps(run.absorbs_arrivals)).min(cuts.next().unwrap());
            let mut times = (fast.now..fast.now + wanted).map(u64::from);
            let taken = fast.scheduler.advance_decode(wanted, |_| times.next());
            fast.now += taken;
            if taken < wanted || taken == 0 {
                fast.let_in();
                fast.iterate();
            }
            while single.now < fast.now {
                single.let_in();
                single.iterate();
            }
            single.let_in();
            fast.let_in();
            prop_assert_eq!(single.state(), fast.state());
            prop_assert!(fast.now < 50_000);
        }
        prop_assert_eq!(single.log, fast.log);
    }
}
