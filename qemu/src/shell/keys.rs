// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interprets the user's keys.

const PREFIX: u8 = 0x01;

/// The action for some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the bytes to the console that is shown.
    Send(Vec<u8>),
    /// Show the console of this number.
    Switch(u8),
    /// Print the list of keys.
    Help,
    /// Leave the shell.
    Quit,
}

/// Finds the keys behind Ctrl-A.
#[derive(Debug, Default)]
pub(super) struct Keys {
    prefixed: bool,
}

impl Keys {
    /// Takes keys as they arrive; returns their actions.
    pub(super) fn feed(&mut self, keys: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut plain = Vec::new();
        for &key in keys {
            if !self.prefixed {
                match key {
                    PREFIX => self.prefixed = true,
                    key => plain.push(key),
                }
                continue;
            }
            self.prefixed = false;
            let action = match key {
                b'a' | PREFIX => {
                    plain.push(PREFIX);
                    continue;
                }
                b'0'..=b'9' => Action::Switch(key - b'0'),
                b'x' | b'q' => Action::Quit,
                _ => Action::Help,
            };
            if !plain.is_empty() {
                actions.push(Action::Send(std::mem::take(&mut plain)));
            }
            actions.push(action);
        }
        if !plain.is_empty() {
            actions.push(Action::Send(plain));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_after_ctrl_a_are_commands_at_any_cut() {
        let input = b"ls\r\x012\x01aw\x01?\x01x";
        let expected = [
            Action::Send(b"ls\r".to_vec()),
            Action::Switch(2),
            Action::Send(b"\x01w".to_vec()),
            Action::Help,
            Action::Quit,
        ];
        assert_eq!(Keys::default().feed(input), expected);
        let mut keys = Keys::default();
        let mut one_by_one: Vec<Action> = Vec::new();
        for action in input
            .iter()
            .flat_map(|&key| keys.feed(&[key]))
            .collect::<Vec<_>>()
        {
            match (one_by_one.last_mut(), action) {
                (Some(Action::Send(all)), Action::Send(more)) => all.extend(more),
                (_, action) => one_by_one.push(action),
            }
        }
        assert_eq!(one_by_one, expected);
    }
}
