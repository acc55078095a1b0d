//! The command line as a whole.

use super::Cli;
use clap::{CommandFactory, Parser};

/// Every command and subcommand with the words that call it.
fn all() -> Vec<(String, clap::Command)> {
    fn collect(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        found.push((words.to_owned(), command.clone()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            collect(below, &format!("{words} {}", below.get_name()), found);
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    collect(&root, "larder", &mut found);
    found
}

fn parses(line: &str) -> bool {
    Cli::try_parse_from(line.split_whitespace()).is_ok()
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does() {
    for (words, command) in all() {
        assert!(command.get_about().is_some(), "{words} has no description");
        let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for argument in arguments {
            assert!(argument.get_help().is_some(), "{words}: {} has no description", argument.get_id());
        }
    }
}

#[test]
fn every_help_fits_a_terminal_of_80_columns() {
    for (words, command) in all() {
        let mut command = command.term_width(80);
        for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
            assert!(help.contains("Usage:"), "{words}");
            // Words that can't be broken, as in usage lines, may stand out.
            let long = help.lines().find(|line| line.chars().count() > 80 && !line.contains("Usage:"));
            assert_eq!(long, None, "{words}");
        }
    }
}

#[test]
fn flags_may_be_shortened_and_stand_anywhere() {
    for line in [
        "larder image list --form json",
        "larder --proj web image list",
        "larder image list --proj web",
        "larder image copy images:a local: --auto-up --copy",
        "larder admin init --mini",
    ] {
        assert!(parses(line), "{line}");
    }
}

#[test]
fn what_people_type_to_the_peers_clients_is_understood() {
    for line in [
        "larder launch images:alpine/3.22 c1 -c limits.memory=1GiB -d root,size=5GiB -s fast",
        "larder ls -c ns4 -f csv",
        "larder exec c1 -- ls -l /",
        "larder rm c1 c2 --force",
        "larder image ls images: debian type=container -c lFt -f compact",
        "larder image show 3f5cb05a --vm",
        "larder image info alpine",
        "larder image edit alpine",
        "larder image rm alpine debian",
        "larder image cp images:alpine/3.22 local: --alias a --alias b --auto-update --public --copy-aliases",
        "larder image copy one two: --mode relay --target-project web --reuse",
        "larder image import meta.tar.xz root.squashfs local: os=Alpine --alias a",
        "larder image export alpine /tmp",
        "larder image refresh alpine debian",
        "larder image set-property alpine os Alpine",
        "larder image get-property alpine os",
        "larder image unset-property alpine os",
        "larder image alias ls local: alp",
        "larder image alias create a 3f5cb05a --description text",
        "larder image alias mv a b",
        "larder image alias rm b",
        "larder storage volume ls fast",
        "larder storage create fast dir source=/srv/pool",
        "larder admin init --auto --storage-backend dir --storage-pool fast",
        "larder admin init --dump",
        "larder admin catalog backup larder.db",
        "larder admin waitready --timeout 5",
        "larder admin shutdown -t 5",
        "larder completion fish",
    ] {
        assert!(parses(line), "{line}");
    }
}

#[test]
fn wrong_calls_are_refused() {
    for line in [
        "larder",
        "larder nothing",
        "larder image",
        "larder image copy images:alpine",
        "larder image delete",
        "larder image list --format xml",
        "larder image copy a b: --mode push",
        "larder admin init --auto --minimal",
        "larder admin init --storage-backend dir",
        "larder admin recover",
        "larder completion elvish",
    ] {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn the_commands_are_these() {
    let root = Cli::command();
    let shown = root.get_subcommands().filter(|command| !command.is_hide_set());
    let told: Vec<String> = shown
        .map(|command| format!("{}: {}", command.get_name(), command.get_about().unwrap_or_default()))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    launch: Create and start an instance from an image
    init: Create an instance from an image, without starting it
    list: List instances
    info: Show an instance and its state, or the server
    start: Start instances
    stop: Stop instances
    restart: Restart instances
    pause: Pause instances
    resume: Resume paused instances
    exec: Run a command in an instance
    console: Attach to the console of an instance; Ctrl-A q detaches
    file: Manage files in instances
    copy: Copy an instance or a snapshot to a new instance
    move: Move an instance to another name, pool or project
    rename: Rename an instance, or a snapshot when the names are INSTANCE/SNAPSHOT
    delete: Delete instances, or snapshots when the names are INSTANCE/SNAPSHOT
    snapshot: Manage snapshots of instances; without a command, take one: snapshot INSTANCE [SNAPSHOT]
    restore: Restore an instance from a snapshot
    publish: Make an image from an instance or a snapshot
    export: Export an instance to a backup file
    import: Import an instance from a backup file
    config: Manage the configuration of instances and of the server
    profile: Manage profiles
    image: Manage images
    storage: Manage storage pools, volumes and buckets
    project: Manage projects
    operation: Manage background operations
    warning: Manage warnings
    monitor: Show events as they happen, until Ctrl-C
    query: Send a request to the API
    remote: Manage remotes: other servers on this machine, and image servers
    admin: Set up and look after the server
    version: Show the versions of the client and of the server
    completion: Print a completion script
    ");
}

#[test]
fn completion_scripts_and_man_pages_know_every_command() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "larder", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("set-property") && script.contains("waitready"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
    for page in ["larder.1", "larder-image-alias-create.1", "larder-admin-catalog-backup.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}
