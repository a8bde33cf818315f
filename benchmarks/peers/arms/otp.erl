#!/usr/bin/env escript
%% otp.erl LIST OUT WORKERS: an OTP supervisor with a gen_server for each share, which owns the port
%% program that does it. The default intensity is 1 restart in 5 s; this one allows 100 in 10 s, as
%% the arm `restart` does.
-mode(compile).

-export([main/1, start_share/1, init/1, handle_call/3, handle_cast/2, handle_info/2]).

main([List, Out, Workers]) ->
    logger:set_primary_config(level, error),
    Program = filename:join(filename:dirname(filename:absname(escript:script_name())), "share.py"),
    Count = list_to_integer(Workers),
    Shares = [{self(), Program, [List, Out, integer_to_list(N), Workers]}
              || N <- lists:seq(0, Count - 1)],
    process_flag(trap_exit, true),
    {ok, Supervisor} = supervisor:start_link(?MODULE, {supervisor, Shares}),
    wait(Supervisor, Count).

wait(_, 0) -> halt(0);
wait(Supervisor, Left) ->
    receive
        complete -> wait(Supervisor, Left - 1);
        {'EXIT', Supervisor, _} -> halt(1)
    end.

start_share(Share) -> gen_server:start_link(?MODULE, {share, Share}, []).

init({supervisor, Shares}) ->
    Children = [#{id => Share, start => {?MODULE, start_share, [Share]}, restart => transient,
                  shutdown => brutal_kill} || Share <- Shares],
    {ok, {#{strategy => one_for_one, intensity => 100, period => 10}, Children}};
init({share, {Main, Program, Arguments}}) ->
    Port = open_port({spawn_executable, Program},
                     [{args, Arguments}, exit_status, nouse_stdio]),
    {ok, {Port, Main}}.

handle_call(_, _, State) -> {reply, unknown, State}.

handle_cast(_, State) -> {noreply, State}.

handle_info({Port, {exit_status, 0}}, {Port, Main} = State) ->
    Main ! complete,
    {stop, normal, State};
handle_info({Port, {exit_status, Status}}, {Port, _} = State) ->
    {stop, {exit_status, Status}, State}.
