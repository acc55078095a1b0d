//! `/1.0/resources`: what the machine has, read from `/proc` and `/sys`. What can't be read is left empty.

mod cpu;
mod disks;
mod memory;
mod system;
mod tree;

use super::Reply;
use super::glue::{App, blocking, sync};
use axum::extract::State;
use larder_api::{Resources, ResourcesLoad};
use tree::Tree;

/// GET `/1.0/resources`.
pub(crate) async fn get(State(app): State<App>) -> Reply {
    sync(&blocking(&app, |_| Ok(resources(&Tree::below("/")))).await?)
}

fn resources(machine: &Tree) -> Resources {
    let architecture = rustix::system::uname().machine().to_string_lossy().into_owned();
    Resources {
        cpu: cpu::cpu(machine, architecture),
        memory: memory::memory(machine),
        storage: disks::storage(machine),
        system: system::system(machine),
        load: load(machine),
        ..Resources::default()
    }
}

/// Three averages from `/proc/loadavg`; a process is a folder of `/proc` that is called by its number.
fn load(machine: &Tree) -> ResourcesLoad {
    let averages = machine.text("proc/loadavg");
    let average =
        |at: usize| averages.split_whitespace().nth(at).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let is_process = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    ResourcesLoad {
        average_1_min: average(0),
        average_5_min: average(1),
        average_10_min: average(2),
        processes: tree::count(machine.names("proc").iter().filter(|name| is_process(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_counted_and_not_their_threads() {
        let (_folder, machine) = tree::made(&[
            ("proc/loadavg", "0.50 0.25 0.10 1/345 999\n"),
            ("proc/1/stat", ""),
            ("proc/27/stat", ""),
            ("proc/sys/x", ""),
        ]);
        let load = load(&machine);
        assert_eq!((load.average_1_min, load.average_5_min, load.average_10_min), (0.5, 0.25, 0.1));
        assert_eq!(load.processes, 2);
    }

    #[test]
    fn a_machine_that_tells_nothing_has_nothing() {
        let (_folder, machine) = tree::made(&[]);
        let found = resources(&machine);
        let architecture = found.cpu.architecture.clone();
        let kind = "unknown".to_owned();
        let nothing = Resources {
            cpu: larder_api::ResourcesCpu { architecture, ..Default::default() },
            system: larder_api::ResourcesSystem { kind, ..Default::default() },
            ..Resources::default()
        };
        assert_eq!(found, nothing);
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let found = resources(&Tree::below("/"));
        let threads =
            found.cpu.sockets.iter().flat_map(|socket| &socket.cores).flat_map(|core| &core.threads);
        assert_eq!(tree::count(threads), found.cpu.total);
        let available = std::thread::available_parallelism().unwrap().get();
        assert!(found.cpu.total >= u64::try_from(available).unwrap(), "{:?}", found.cpu);
        assert!(0 < found.memory.used && found.memory.used < found.memory.total, "{:?}", found.memory);
        assert!(found.load.processes > 0);
    }
}
