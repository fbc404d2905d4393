//! tonic: gRPC, by what its generated code is made of, with prost's messages.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::Sender;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::tokio_stream::wrappers::UnixListenerStream;
use tonic::codegen::{BoxFuture, Context, Poll, Service};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::caller::{Call, Caller};
use super::{Listener, Serving, Way, answer, failed, runtime, unix};
use crate::fault::{During, Fault};
use crate::measure::halves::RoundTrips;

const METHOD: &str = "/unet.bench.Null/Call";

/// Argument and reply.
#[derive(Clone, PartialEq, prost::Message)]
struct Word {
    #[prost(fixed64, tag = "1")]
    word: u64,
}

type Codec = ProstCodec<Word, Word>;

struct Client(Grpc<Channel>);

/// Connects.
pub fn client(way: Way) -> Result<Box<dyn RoundTrips>, Fault> {
    let runtime = runtime()?;
    let connecting = |error| failed("connecting by tonic", error);
    let channel = runtime.block_on(async {
        match way {
            Way::Tcp(address) => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"));
                endpoint.map_err(connecting)?.connect().await.map_err(connecting)
            }
            Way::Unix(address) => {
                let connector = tower::service_fn(move |_| {
                    let stream = unix(&address).and_then(tokio::net::UnixStream::from_std);
                    async { Ok::<_, io::Error>(TokioIo::new(stream?)) }
                });
                // The name is not looked up: the connector knows the way.
                let endpoint = Endpoint::from_static("http://localhost");
                endpoint.connect_with_connector(connector).await.map_err(connecting)
            }
        }
    })?;
    Ok(Box::new(Caller::new(runtime, Client(Grpc::new(channel)))))
}

impl Call for Client {
    async fn call(&mut self, word: u64) -> Result<u64, Fault> {
        self.0.ready().await.map_err(|error| failed("a call by tonic", error))?;
        let path = PathAndQuery::from_static(METHOD);
        let reply = self.0.unary(Request::new(Word { word }), path, Codec::default()).await;
        let reply: Response<Word> = reply.map_err(|status| failed("a call by tonic", status))?;
        Ok(reply.into_inner().word)
    }
}

/// Serves in a runtime.
pub fn server(listener: Listener, finished: Sender<()>) -> Result<Serving, Fault> {
    const LISTENING: &str = "listening by tonic";
    let runtime = runtime()?;
    let inside = runtime.enter();
    let router = tonic::transport::Server::builder().add_service(Answers(finished));
    match listener.prepare().during(LISTENING)? {
        Listener::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener).during(LISTENING)?;
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            runtime.spawn(router.serve_with_incoming(incoming));
        }
        Listener::Unix(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener).during(LISTENING)?;
            runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        }
    }
    drop(inside);
    Ok(Serving::Runtime(runtime))
}

/// The service, as tonic-build would write it.
#[derive(Clone)]
struct Answers(Sender<()>);

impl NamedService for Answers {
    const NAME: &'static str = "unet.bench.Null";
}

impl Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Method(self.0.clone());
        Box::pin(async move {
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented("there is one method").into_http());
            }
            Ok(tonic::server::Grpc::new(Codec::default()).unary(method, request).await)
        })
    }
}

struct Method(Sender<()>);

impl UnaryService<Word> for Method {
    type Response = Word;
    type Future = BoxFuture<Response<Word>, Status>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        let word = answer(&self.0, request.into_inner().word);
        Box::pin(async move { Ok(Response::new(Word { word })) })
    }
}
