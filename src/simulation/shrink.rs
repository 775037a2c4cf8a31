//! The smallest part of a program that still breaks: Zeller and Hildebrandt's *ddmin* over its steps.

/// The fewest of `steps` that it found for which `breaks` holds, as it does for all of them. Asks at
/// most `most` times.
pub(super) fn shrink(
    mut steps: Vec<usize>,
    most: usize,
    mut breaks: impl FnMut(&[usize]) -> bool,
) -> Vec<usize> {
    let (mut parts, mut asked) = (2, 0);
    while !steps.is_empty() && asked < most {
        let size = steps.len().div_ceil(parts);
        let fewer = (0..steps.len()).step_by(size).find_map(|from| {
            let mut rest = steps.clone();
            rest.drain(from..(from + size).min(steps.len()));
            asked += 1;
            breaks(&rest).then_some(rest)
        });
        match fewer {
            Some(fewer) => {
                steps = fewer;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(steps.len()),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let needed = [3, 17, 18, 40];
        let breaks = |steps: &[usize]| needed.iter().all(|step| steps.contains(step));
        assert_eq!(shrink((0..50).collect(), usize::MAX, breaks), needed);
        assert_eq!(shrink((0..50).collect(), usize::MAX, |_| true), [0; 0]);
        assert!(shrink((0..50).collect(), 3, breaks).len() >= needed.len());
    }
}
