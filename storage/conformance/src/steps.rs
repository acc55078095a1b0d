//! The words of a changing step, without what differs from world to world.

/// Replaces identifiers, and the numbers of devices.
pub(crate) fn without_numbers(words: &str) -> String {
    without_device_numbers(&without_identifiers(words))
}

/// An identifier is a run of at least eight hexadecimal digits.
fn without_identifiers(text: &str) -> String {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '-');
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let run = &rest[start..];
        let end = run.find(|c| !is_digit(c)).unwrap_or(run.len());
        let digits = run[..end].bytes().filter(|byte| *byte != b'-').count();
        plain.push_str(&rest[..start]);
        plain.push_str(if digits < 8 { &run[..end] } else { "ID" });
        rest = &run[end..];
    }
    plain + rest
}

/// The kernel gives out the next number that is free.
fn without_device_numbers(text: &str) -> String {
    let plain = |word: &str| match word.strip_prefix("/dev/") {
        Some(device) if device.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            word.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
        }
        _ => word.to_owned(),
    };
    text.split(' ').map(plain).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_the_same_in_every_world_and_unlike_every_other_step() {
        let step = |id: &str, device: &str, snapshot: &str| {
            without_numbers(&format!("mount /dev/{device} /pool/larder_{id}/{snapshot} --options ro,nodev"))
        };
        let told = step("7da4afc3363e69c96d472849e5ab95d1", "rbd0", "s1");
        assert_eq!(told, "mount /dev/rbd /pool/larder_ID/s1 --options ro,nodev");
        assert_eq!(told, step("0e0aa1a2-2f6b-4b0a-9d5c-4c1d3a3b9c11", "rbd12", "s1"));
        assert_ne!(told, step("7da4afc3363e69c96d472849e5ab95d1", "rbd12", "s2"));
        assert_ne!(told, step("7da4afc3363e69c96d472849e5ab95d1", "sda1", "s1"));
    }
}
