//! The verifier catches what it is there for.

use super::*;

const LENGTHS: [usize; 5] = [8, 64, 72, 1024, 65_536];

fn stream(length: usize, numbers: &[u64]) -> (Verifier, Result<(), Fault>) {
    let mut payload = Payload::new(length, true);
    let mut verifier = Verifier::new(length, 2).thorough(true);
    let mut check = |number| verifier.check(payload.bytes(number));
    let result = numbers.iter().try_for_each(|number| check(*number));
    (verifier, result)
}

#[test]
fn what_is_whole_and_in_order_passes() {
    for length in LENGTHS {
        let numbers = [0, 1, first(1), 2, first(1) + 1, end(3), end(first(1) + 2)];
        let (verifier, result) = stream(length, &numbers);
        assert_eq!(result, Ok(()), "{length}");
        assert!(verifier.is_over());
        assert_eq!(verifier.received(), 5);
        assert_eq!(verifier.sum(), sum_of(0, 3).wrapping_add(sum_of(1, 2)));
    }
}

#[test]
fn a_missing_message_is_noticed() {
    for (numbers, expected) in [(&[0, 2][..], 1), (&[0, 1, end(3)], 2), (&[1], 0)] {
        let found = numbers.last().unwrap() & !END;
        let (_, result) = stream(64, numbers);
        assert_eq!(result, Err(Fault::Missing { expected, found }));
    }
}

#[test]
fn a_repeated_message_is_noticed() {
    for numbers in [&[0, 0][..], &[0, 1, 0], &[0, 1, end(1)]] {
        let found = numbers.last().unwrap() & !END;
        let (_, result) = stream(64, numbers);
        let expected = numbers.len() as u64 - 1;
        assert_eq!(result, Err(Fault::Repeated { expected, found }));
    }
}

#[test]
fn a_strange_number_or_length_is_noticed() {
    let (_, result) = stream(64, &[first(2)]);
    assert_eq!(result, Err(Fault::Stranger(first(2))));
    let short = Verifier::new(64, 1).check(&[0; 56]);
    let (expected, found) = (64, 56);
    assert_eq!(short, Err(Fault::Length { expected, found }));
}

#[test]
fn every_damaged_byte_is_noticed_when_thorough() {
    for length in [8, 64, 72, 1024] {
        for at in 0..length {
            let mut message = Payload::new(length, true).bytes(0).to_vec();
            message[at] ^= 0x10;
            let mut verifier = Verifier::new(length, 1).thorough(true);
            let fault = verifier.check(&message).expect_err("damaged");
            if at >= 8 {
                let offset = at / 8 * 8;
                assert_eq!(fault, Fault::Corrupt { offset }, "byte {at} of {length}");
            }
        }
    }
}

#[test]
fn a_line_of_another_message_is_noticed_while_time_is_taken() {
    for length in LENGTHS {
        let mut payload = Payload::new(length, false);
        let old = payload.bytes(0).to_vec();
        let new = payload.bytes(1).to_vec();
        for line in (0..length).step_by(LINE) {
            let end = (line + LINE).min(length);
            let mut torn = new.clone();
            torn[line..end].copy_from_slice(&old[line..end]);
            let mut verifier = Verifier::new(length, 1);
            assert_eq!(verifier.check(&old), Ok(()));
            assert!(verifier.check(&torn).is_err(), "line {line} of {length}");
        }
    }
}

#[test]
fn all_ways_of_writing_a_message_agree() {
    let mut payload = Payload::new(1024, true);
    let mut written = vec![0; 1024];
    let mut put = |offset: usize, part: &[u8]| {
        written[offset..offset + part.len()].copy_from_slice(part);
    };
    payload.write(7, &mut put);
    assert_eq!(payload.bytes(7), written);
    assert_eq!(payload.bytes(7), array::<1024>(7));
}

#[test]
fn receivers_that_share_see_gaps_but_no_repetition() {
    let mut payload = Payload::new(8, false);
    let mut verifier = Verifier::new(8, 1).shared(true);
    assert_eq!(verifier.check(payload.bytes(3)), Ok(()));
    assert_eq!(verifier.check(payload.bytes(9)), Ok(()));
    assert_eq!(verifier.sum(), 12);
    assert!(verifier.check(payload.bytes(3)).is_err());
}

#[test]
fn what_is_checked_by_lines_is_checked_as_well() {
    let length = 5 * LINE;
    let message: Vec<_> = lines(7).take(5).collect();
    for thorough in [false, true] {
        let check = |lines: &[[u8; LINE]], next| {
            let mut verifier = Verifier::new(length, 1).thorough(thorough);
            verifier.next = vec![next];
            verifier.check_lines(lines.iter().copied())
        };
        assert_eq!(check(&message, 7), Ok(()));
        for count in [0, 4] {
            let (expected, found) = (length, count * LINE);
            let fault = Fault::Length { expected, found };
            assert_eq!(check(&message[..count], 7), Err(fault));
        }
        let (expected, found) = (6, 7);
        let missing = Fault::Missing { expected, found };
        assert_eq!(check(&message, 6), Err(missing));
        // Of each line the first word, or all of them.
        for (at, noticed) in [(0, true), (5, true), (60, thorough)] {
            let mut damaged = message.clone();
            damaged[3][at] ^= 1;
            let offset = 3 * LINE + at / WORD * WORD;
            let expected = if noticed {
                Err(Fault::Corrupt { offset })
            } else {
                Ok(())
            };
            assert_eq!(check(&damaged, 7), expected, "{at}, {thorough}");
        }
    }
}
