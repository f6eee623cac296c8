//! Ctrl-C and SIGTERM.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Knows how often Ctrl-C was pressed, and whether SIGTERM came. Cheap to clone.
#[derive(Clone)]
pub struct Interrupt {
    interrupts: watch::Receiver<u32>,
    terminated: watch::Receiver<bool>,
}

impl Interrupt {
    /// Takes both signals over from the system's default, which would end the program without a word. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// When the system refuses to give the signals.
    pub fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (count, interrupts) = watch::channel(0);
        let (told, terminated) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = interrupt.recv() => count.send_modify(|count| *count += 1),
                    Some(()) = terminate.recv() => told.send_modify(|told| *told = true),
                    else => std::future::pending().await,
                }
            }
        });
        Ok(Self { interrupts, terminated })
    }

    /// Waits for Ctrl-C; returns at once if it was pressed before.
    pub async fn wait(&self) {
        self.pressed(1).await;
    }

    /// Waits for a second Ctrl-C: the user is out of patience.
    pub async fn again(&self) {
        self.pressed(2).await;
    }

    /// Waits for SIGTERM.
    pub async fn terminated(&self) {
        let mut terminated = self.terminated.clone();
        if terminated.wait_for(|told| *told).await.is_err() {
            std::future::pending().await
        }
    }

    async fn pressed(&self, times: u32) {
        let mut interrupts = self.interrupts.clone();
        if interrupts.wait_for(|count| *count >= times).await.is_err() {
            std::future::pending().await
        }
    }
}
