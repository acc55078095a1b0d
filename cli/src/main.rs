//! `larder`, the command line client.

fn main() -> std::process::ExitCode {
    larder_client::run(std::env::args_os())
}
