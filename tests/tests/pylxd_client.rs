//! The unmodified pylxd drives a running `larderd`: storage, images, profiles and a container.

use larder_tests::{Larderd, RealClient, TestImage, require_containers};

#[test]
fn the_real_pylxd_drives_storage_images_profiles_and_containers() {
    let test = "the_real_pylxd_drives_storage_images_profiles_and_containers";
    if !require_containers(test) {
        return;
    }
    let daemon = Larderd::start();
    let Some(python) = RealClient::pylxd(test, &daemon) else { return };
    let Some(image) = TestImage::make(test, daemon.scratch()) else { return };
    let paths = [daemon.socket(), image.metadata(), image.rootfs()];
    let [socket, metadata, rootfs] = paths.each_ref().map(|path| path.to_str().unwrap());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/pylxd_basics.py");
    let told = python.run(&[script, socket, metadata, rootfs]);
    assert_eq!(told.lines().last(), Some("all"), "{told}");
}
